"""Pass-through and conversion read the same usage, in every form in which servers report it."""

import json

import pytest

from proxy.formats.codec import ClientRequest, Meter
from proxy.formats.constraints.aliases import Aliases
from proxy.formats.constraints.restoration import StreamRestorer
from proxy.formats.neutral import Message, Request, Text, Usage
from proxy.formats.registry import CODECS
from proxy.pipeline.conversion import ConvertedStreamMeter
from tests.proxy.formats.metering.test_reported_usage import (
    chat_request,
    gemini_request,
    messages_request,
    responses_request,
)
from tests.proxy.formats.metering.usage_forms import (
    COUNTED,
    FORMS,
    FULL,
    GEMINI_USAGE,
    RESPONSES_USAGE,
    Json,
    generated,
)

CLIENT = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)
REQUESTS: dict[str, ClientRequest] = {
    "openai_chat": chat_request(stream=True),
    "openai_responses": responses_request(stream=True),
    "anthropic": messages_request(stream=True),
    "gemini": gemini_request(),
}
OTHER_FORMATS = {name: "anthropic" if name != "anthropic" else "openai_chat" for name in REQUESTS}
TABLE = [(format, form) for format, forms in FORMS.items() for form in forms]


def read(meter: Meter, stream: bytes, size: int) -> Usage | None:
    for start in range(0, len(stream), size):
        meter.feed(stream[start : start + size])
    meter.finish()
    return meter.usage


def relay_meter(format: str) -> Meter:
    return REQUESTS[format].meter()


def conversion_meter(format: str) -> Meter:
    client = CODECS[OTHER_FORMATS[format]]
    decoder, encoder = CODECS[format].parse_stream(), client.render_stream(CLIENT)
    return ConvertedStreamMeter(decoder, encoder, StreamRestorer(Aliases()))


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize(("format", "form"), TABLE)
def test_relay_and_conversion_read_the_same_usage(format: str, form: str, size: int) -> None:
    stream, expected = FORMS[format][form]
    assert read(relay_meter(format), stream, size) == expected
    assert read(conversion_meter(format), stream, size) == expected


@pytest.mark.parametrize(("format", "form"), TABLE)
def test_relay_and_conversion_count_the_same_output(format: str, form: str) -> None:
    stream, _ = FORMS[format][form]
    relay, conversion = relay_meter(format), conversion_meter(format)
    read(relay, stream, len(stream)), read(conversion, stream, len(stream))
    assert conversion.output_tokens == relay.output_tokens
    assert conversion.server_tool_calls == relay.server_tool_calls


CHAT_CHOICE: Json = {"message": {"content": "hi"}, "finish_reason": "stop"}
CHAT_BODY: Json = {"id": "c", "model": "m", "choices": [CHAT_CHOICE]}
WHOLE: dict[str, list[Json | str]] = {
    "openai_chat": [
        CHAT_BODY | {"usage": FULL},
        CHAT_BODY | {"usage": {name: float(count) for name, count in FULL.items()}},
        CHAT_BODY | {"usage": {name: str(count) for name, count in FULL.items()}},
        CHAT_BODY | {"usage": None, "x_groq": {"usage": FULL}},
        CHAT_BODY | {"choices": [CHAT_CHOICE | {"usage": FULL}]},
        {"choices": [], "usage": FULL},
        '{"choices": [{"message": {"content": 1e999}}], "us\\u0061ge": '
        '{"prompt_tokens": 1000, "completion_tokens": 100}}',
    ],
    "openai_responses": [
        {"id": "r", "status": "completed", "output": [], "usage": RESPONSES_USAGE},
        {"id": "r", "status": "failed", "error": {"message": "x"}, "output": [], "usage": RESPONSES_USAGE},
        {"id": "r", "status": "incomplete", "output": "none", "usage": RESPONSES_USAGE},
    ],
    "anthropic": [
        {"content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1000, "output_tokens": 100}},
        {"content": "none", "usage": {"input_tokens": "1000", "output_tokens": 100.0}},
    ],
    "gemini": [
        generated("hi", "STOP", GEMINI_USAGE),
        {"candidates": "none", "usageMetadata": GEMINI_USAGE},
    ],
}


@pytest.mark.parametrize(
    ("format", "body"), [(format, body) for format, bodies in WHOLE.items() for body in bodies]
)
def test_response_is_measured_alike_by_relay_and_conversion(format: str, body: Json | str) -> None:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    assert REQUESTS[format].measure(data) == (COUNTED, 0)
    assert CODECS[format].measure(data) == (COUNTED, 0)

"""Failures of providers: errors in streams, missing final events, invalid counts, endless events."""

import json
import time
from typing import Any

import pytest

from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.codec import ClientRequest, Meter
from proxy.formats.constraints.aliases import Aliases
from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.restoration import StreamRestorer
from proxy.formats.gemini.passthrough import GenerateContentRequest
from proxy.formats.neutral import ApiError, Failed, Message, Request, RequestFacts, Text, Usage
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses.passthrough import ResponsesRequest
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.formats.streaming.sse import MAX_EVENT_BYTES, EventSplitter, EventTooLong
from proxy.formats.streaming.stream_errors import EVENT_TOO_LONG, STREAM_INTERRUPTED
from proxy.pipeline.conversion import ConvertedStreamMeter, PassThrough
from proxy.pipeline.relay import forwarded_headers
from proxy.routing.targets import UpstreamPlan
from tests.proxy.formats.scenarios import RESPONSES, events
from tests.support.converted_requests import converted_request

CLIENT = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)
FAILURE = ApiError(kind="server_error", code="overloaded", message="Too busy.", status=529)
CLIENT_REQUESTS: dict[str, ClientRequest] = {
    "openai_chat": ChatRequest(b'{"model": "m", "messages": [{}], "stream": true}'),
    "openai_responses": ResponsesRequest(b'{"model": "m", "input": "x", "stream": true}'),
    "anthropic": MessagesRequest(
        b'{"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}], "stream": true}'
    ),
    "gemini": GenerateContentRequest(b'{"contents": [{"parts": [{"text": "x"}]}]}', "m", True),
}
TO_CHAT = Destination("compatible", "openai_chat", "m")
ARRAY = GenerateContentRequest(b'{"contents": [{"parts": [{"text": "x"}]}]}', "m", True, as_array=True)
RELAYED_ARRAY = PassThrough(ARRAY, Destination("gemini", "gemini", "m"), Quirks())
ERRORS = {
    "openai_chat": b'data: {"error": {"message": "Too busy."}}\n\n',
    "openai_responses": (
        b'event: response.failed\ndata: {"type": "response.failed", "response": {"error": {"code": "x"}}}\n\n'
    ),
    "anthropic": (
        b"event: error\n"
        b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "Too busy."}}\n\n'
    ),
    "gemini": b'data: {"error": {"code": 503, "message": "Too busy."}}\r\n\r\n',
}


def stream_of(name: str, scenario: str = "text") -> bytes:
    encoder = CODECS[name].render_stream(CLIENT)
    stream: bytes = (
        b"".join(encoder.encode(event) for event in events(RESPONSES[scenario])) + encoder.finish()
    )
    return stream


def meter_stream(meter: Meter, stream: bytes) -> tuple[bytes, bool]:
    return meter.feed(stream) + meter.finish(), meter.provider_failed


# Errors in a stream -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
@pytest.mark.parametrize("scenario", ["text", "parallel calls"])
def test_complete_stream_is_not_a_failure(name: str, scenario: str) -> None:
    stream = stream_of(name, scenario)
    meter = CLIENT_REQUESTS[name].meter()
    passed, failed = meter_stream(meter, stream)
    assert not failed and meter.error is None and passed


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_text_about_errors_is_not_a_failure(name: str) -> None:
    encoder = CODECS[name].render_stream(CLIENT)
    part = RESPONSES["text"].choices[0].parts[0]
    assert isinstance(part, Text)
    text = 'event: error {"type": "error"} "response.failed" "error"'
    stream = b"".join(encoder.encode(event) for event in events(RESPONSES["text"])) + encoder.finish()
    quoted = json.dumps(text)[1:-1].encode()
    _, failed = meter_stream(CLIENT_REQUESTS[name].meter(), stream.replace(b"quoted", quoted))
    assert not failed


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_error_in_stream_is_forwarded_and_detected(name: str) -> None:
    stream = stream_of(name)
    cut = stream.index(b"\n\n") + 2 if name != "gemini" else stream.index(b"\r\n\r\n") + 4
    broken = stream[:cut] + ERRORS[name]
    assert meter_stream(CLIENT_REQUESTS[name].meter(), broken) == (broken, True)


@pytest.mark.parametrize("name", ["anthropic", "openai_responses"])
def test_stream_without_its_final_event_is_a_failure(name: str) -> None:
    stream = stream_of(name)
    cut = stream[: stream[:-2].rindex(b"\n\n") + 2]
    meter = CLIENT_REQUESTS[name].meter()
    assert meter_stream(meter, cut) == (cut, False)
    assert meter.error == STREAM_INTERRUPTED


# Failures sent to the client ----------------------------------------------------------------------


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_passthrough_meter_renders_errors_in_the_client_format(name: str) -> None:
    assert CLIENT_REQUESTS[name].meter().render_error_event(FAILURE, "req_1") == CODECS[
        name
    ].render_error_event(FAILURE, "req_1")


def converted_failure(name: str, client_request: ClientRequest) -> tuple[ConvertedStreamMeter, bytes]:
    """Return a meter whose provider fails after the start of its response."""
    meter = ConvertedStreamMeter(
        CODECS["anthropic"].parse_stream(), client_request.encoder(CLIENT), StreamRestorer(Aliases())
    )
    start = stream_of("anthropic")
    passed = meter.feed(start[: start.index(b"event: content_block_stop")])
    passed += meter.feed(ERRORS["anthropic"]) + meter.finish()
    assert meter.error is not None and not meter.provider_failed
    return meter, passed + meter.render_error_event(meter.error, "req_1")


def test_responses_error_event_continues_the_sequence_numbers() -> None:
    _, sent = converted_failure("openai_responses", CLIENT_REQUESTS["openai_responses"])
    read = [json.loads(line[6:]) for line in sent.decode().splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in read] == list(range(len(read)))
    assert [event["type"] for event in read[-2:]] == ["error", "response.failed"]
    assert read[-2]["error"]["request_id"] == "req_1"


def test_failed_array_stream_is_valid_json() -> None:
    _, sent = converted_failure("gemini", ARRAY)
    assert json.loads(sent)[-1]["error"]["message"] == "Too busy."
    meter = ARRAY.meter()
    passed = meter.feed(
        stream_of("gemini")[: stream_of("gemini").index(b"\r\n\r\n") + 4]
    ) + meter.render_error_event(FAILURE, "req_1")
    assert json.loads(passed)[-1]["error"]["message"] == "Too busy."


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_converted_failure_has_the_request_id(name: str) -> None:
    _, sent = converted_failure(name, CLIENT_REQUESTS[name])
    assert b"req_1" in sent and b"Too busy." in sent


class Reply:
    def __init__(self, status: int, type: str) -> None:
        self.status, self.headers = status, {"content-type": type}


@pytest.mark.parametrize(
    ("plan", "status", "content_type", "type"),
    [
        (
            RELAYED_ARRAY,
            200,
            "text/event-stream; charset=utf-8",
            "application/json",
        ),
        (RELAYED_ARRAY, 400, "text/html", "text/html"),
        (
            converted_request(CLIENT_REQUESTS["anthropic"], "anthropic", TO_CHAT),
            200,
            "application/json",
            "text/event-stream",
        ),
        (
            converted_request(ARRAY, "gemini", Destination("compatible", "anthropic", "m")),
            200,
            "text/event-stream",
            "application/json",
        ),
        (
            converted_request(CLIENT_REQUESTS["anthropic"], "anthropic", TO_CHAT),
            503,
            "text/html",
            "application/json",
        ),
    ],
)
def test_stream_has_the_client_content_type(
    plan: UpstreamPlan, status: int, content_type: str, type: str
) -> None:
    headers: Any = forwarded_headers(plan, Reply(status, content_type))  # type: ignore[arg-type]
    assert headers["content-type"] == type


# Counts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 7, "completion_tokens": 5.0},
        {"prompt_tokens": "7", "completion_tokens": "5"},
        {
            "prompt_tokens": 7,
            "completion_tokens": 5,
            "prompt_tokens_details": [],
            "completion_tokens_details": "none",
        },
    ],
)
@pytest.mark.parametrize("text", [b"hello", b"\\ud800"])
def test_chat_usage_is_read_in_all_spellings(usage: dict[str, Any], text: bytes) -> None:
    stated = json.dumps(usage).encode()
    body = b'{"choices": [{"message": {"content": "%b"}, "delta": {"content": "%b"}}], "usage": %b}' % (
        text,
        text,
        stated,
    )
    assert CLIENT_REQUESTS["openai_chat"].measure(body) == (Usage(input=7, output=5), 0)
    meter = CLIENT_REQUESTS["openai_chat"].meter()
    meter.feed(b"data: " + body + b"\n\n")
    assert meter.usage == Usage(input=7, output=5)
    assert CODECS["openai_chat"].parse_stream().feed(b"data: " + body.replace(b"\\ud800", b"x") + b"\n\n")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        (
            "anthropic",
            '{"content": [{"text": "%s"}],'
            ' "usage": {"input_tokens": 7.0, "output_tokens": "5", "cache_creation": []}}',
        ),
        (
            "openai_responses",
            '{"output": [{"text": "%s"}],'
            ' "usage": {"input_tokens": 7.0, "output_tokens": "5", "input_tokens_details": []}}',
        ),
        (
            "gemini",
            '{"candidates": [{"content": {"parts": [{"text": "%s"}]}}],'
            ' "usageMetadata": {"promptTokenCount": 7.0, "candidatesTokenCount": "5"}}',
        ),
    ],
)
@pytest.mark.parametrize("text", ["hello", "\\ud800"])
def test_usage_is_read_in_all_spellings(name: str, body: str, text: str) -> None:
    assert CLIENT_REQUESTS[name].measure((body % text).encode()) == (Usage(input=7, output=5), 0)


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
@pytest.mark.parametrize(
    "body",
    [b"data: x\n\n" * 100, b'{"x": "' + b"y" * 891 + b'"}', b'{"choices": 5, "usage": 5}' + b" " * 900],
)
def test_unreadable_response_is_counted_by_bytes(name: str, body: bytes) -> None:
    usage, seen = CLIENT_REQUESTS[name].measure(body)
    assert usage is None and seen == -(-len(body) // 4)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 7, "completion_tokens": "many"},
        "many",
        {"prompt_tokens": 7, "completion_tokens": -1},
    ],
)
def test_unreadable_usage_does_not_hide_output_text(usage: Any) -> None:
    chat = {"choices": [{"message": {"content": "x" * 400}}], "usage": usage}
    assert CLIENT_REQUESTS["openai_chat"].measure(json.dumps(chat).encode()) == (None, 100)
    text = {"choices": [{"text": "x" * 400}], "usage": usage}
    assert CreateCompletionRequest(b'{"model": "m", "prompt": "x"}').measure(json.dumps(text).encode()) == (
        None,
        100,
    )


def test_embeddings_without_usage_have_no_output_tokens() -> None:
    assert CreateEmbeddingRequest(b'{"model": "m", "input": "x"}').measure(
        b'{"data": [{"embedding": [1, 2]}]}'
    ) == (None, 0)


def test_tool_calls_count_as_output_without_usage() -> None:
    plan = converted_request(CLIENT_REQUESTS["anthropic"], "anthropic", TO_CHAT)
    call = {
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": json.dumps({"a": "x" * 391})},
    }
    body = json.dumps(
        {"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}
    ).encode()
    parsed = plan.parse_response(body)
    assert (parsed.usage, parsed.output_tokens) == (None, 103)


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
@pytest.mark.parametrize("scenario", ["text", "parallel calls"])
def test_error_outside_events_explains_the_end_of_the_stream(name: str, scenario: str) -> None:
    start = stream_of(name, scenario).replace(b"\r\n", b"\n").split(b"\n\n")[:2]
    decoder = CODECS[name].parse_stream()
    seen = [
        *decoder.feed(b"\n\n".join([*start, b'{"error": {"code": 503, "message": "Too busy."}}'])),
        *decoder.finish(),
    ]
    assert isinstance(seen[-1], Failed) and seen[-1].error.message == "Too busy."


# Events without bounds ----------------------------------------------------------------------------


def test_unterminated_event_is_scanned_once() -> None:
    splitter, started_at = EventSplitter(), time.process_time()
    for _ in range(100_000):
        assert splitter.feed(b"0123456789") == []
    assert (
        splitter.feed(b"\n") == []
        and splitter.feed(b"\r") == []
        and len(splitter.feed(b"\nx")[0]) == 1_000_003
    )
    assert splitter.finish() == b"x"
    assert time.process_time() - started_at < 3  # Searching everything each time takes minutes.


def test_oversized_event_is_an_error() -> None:
    splitter = EventSplitter()
    splitter.feed(b"x" * (MAX_EVENT_BYTES + 1))
    with pytest.raises(EventTooLong):
        splitter.feed(b"y")


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_decoder_fails_once_on_an_oversized_event(name: str) -> None:
    decoder = CODECS[name].parse_stream()
    decoder.feed(b"x" * (MAX_EVENT_BYTES + 1))
    assert [*decoder.feed(b"y"), *decoder.feed(b"\n\n"), *decoder.finish()] == [Failed(error=EVENT_TOO_LONG)]


@pytest.mark.parametrize("name", CLIENT_REQUESTS)
def test_meter_forwards_an_oversized_event(name: str) -> None:
    meter, oversized = CLIENT_REQUESTS[name].meter(), b"x" * (MAX_EVENT_BYTES + 1)
    passed = meter.feed(oversized) + meter.feed(b"y" * 10) + meter.feed(b"z")
    assert (passed + meter.finish()).startswith(oversized + b"y" * 10 + b"z")


# The demo's count ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai_responses", "anthropic", "gemini"])
def test_converted_reservation_covers_demo_token_count(name: str) -> None:
    tool: dict[str, Any] = {"name": "f", "description": "d" * 500}
    bodies: dict[str, dict[str, Any]] = {
        "openai_responses": {
            "model": "m",
            "input": [],
            "instructions": "x",
            "tools": [{"type": "custom", **tool}],
        },
        "anthropic": {
            "model": "m",
            "max_tokens": 1,
            "messages": [],
            "system": [{"type": "text", "text": "x"}],
        },
        "gemini": {"contents": []},
    }
    body = bodies[name]
    for number in range(50):
        call_id, last = f"call_{number}", number % 2
        match name:
            case "openai_responses":
                body["input"] += [
                    {"role": "user", "content": "a"},
                    {"type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"},
                ]
            case "anthropic":
                body["messages"] += [{"role": "assistant" if last else "user", "content": "a"}]
            case _:
                body["contents"] += [{"role": "model" if last else "user", "parts": [{"text": "a"}]}]
    raw = json.dumps(body).encode()
    parse: dict[str, Any] = {
        "openai_responses": ResponsesRequest,
        "anthropic": MessagesRequest,
        "gemini": lambda raw: GenerateContentRequest(raw, "m"),
    }
    plan = converted_request(parse[name](raw), name, TO_CHAT)
    counted: RequestFacts = ChatRequest(plan.render_upstream(None).body).facts
    assert plan.facts.max_input_tokens >= counted.max_input_tokens

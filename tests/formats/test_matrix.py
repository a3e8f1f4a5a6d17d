"""Every client format to every provider format, whole and streamed: what the client gets is what the provider said."""

import itertools
import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.conversion import CODECS
from proxy.formats.codec import Quirks
from proxy.formats.neutral import (
    Choice,
    Event,
    Failed,
    Finished,
    Message,
    PartDelta,
    PartStarted,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Usage,
    UsageSeen,
)
from tests.formats.scenarios import ANSWERS, REQUESTS, events

FORMATS = ("openai_chat", "openai_responses", "anthropic", "gemini")
PAIRS = list(itertools.product(FORMATS, FORMATS))
QUIRKS = Quirks()
CLIENT = Request(model="m", messages=(Message(role="user", parts=(Text(text="Hi"),)),), stream=True)


def test_every_format_has_its_row_and_column() -> None:
    assert set(CODECS) == set(FORMATS)


def stream_of(codec: ModuleType, answer: Response) -> bytes:
    """What a provider of this format would stream."""
    encoder = codec.StreamEncoder(CLIENT)
    stream: bytes = b"".join(encoder.encode(event) for event in events(answer)) + encoder.finish()
    return stream


def decoded(codec: ModuleType, stream: bytes, cuts: Sequence[int] = ()) -> list[Event]:
    decoder = codec.StreamDecoder()
    edges = [0, *sorted({cut % max(len(stream), 1) for cut in cuts}), len(stream)]
    seen: list[Event] = [event for start, end in itertools.pairwise(edges) for event in decoder.feed(stream[start:end])]
    return [*seen, *decoder.finish()]


def collected(seen: list[Event]) -> Response:
    """A stream's events as the whole answer that they make."""
    parts: list[Any] = []
    finish: Any = None
    usage: Usage | None = None
    for event in seen:
        match event:
            case PartStarted():
                parts.append([event.part, ""])
            case PartDelta():
                parts[-1][1] += event.text
            case Finished():
                assert finish is None, "finished twice"
                finish = event.finish
            case UsageSeen():
                usage = event.usage
            case Failed():
                raise AssertionError(event.failure)
            case _:
                pass
    return Response(id="x", model="m", choices=(Choice(parts=tuple(whole(*part) for part in parts), finish=finish),), usage=usage)


def whole(part: Any, text: str) -> Any:
    match part:
        case Text():
            return Text(text=part.text + text)
        case Refusal():
            return Refusal(text=part.text + text)
        case Thinking():
            return Thinking(text=part.text + text)
        case ToolCall():
            return ToolCall(id=part.id, name=part.name, arguments=part.arguments + text)
        case _:
            return part


def essence(answer: Response, *, refused: bool = False) -> dict[str, Any]:
    """What every format can say: text, calls, why it ended, what it used. Formats without a word for refusals make one text that
    ended as any does, so that a refused answer may have ended either way, and no other."""
    (choice,) = answer.choices
    text = "".join(part.text for part in choice.parts if isinstance(part, Text | Refusal))
    calls = [(part.name, json.loads(part.arguments or "{}")) for part in choice.parts if isinstance(part, ToolCall)]
    usage = answer.usage
    counted = usage and (usage.prompt, usage.cache_read, usage.output)
    finish = "refused" if refused and choice.finish in ("stop", "content_filter") else choice.finish
    return {"text": text, "calls": calls, "finish": finish, "usage": counted}


def assert_same(heard: Response, said: Response) -> None:
    refused = any(isinstance(part, Refusal) for choice in said.choices for part in choice.parts)
    assert essence(heard, refused=refused) == essence(said, refused=refused)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_a_whole_answer_arrives(client: str, provider: str, name: str) -> None:
    said = CODECS[provider].render_response(ANSWERS[name], CLIENT)
    heard = CODECS[client].render_response(CODECS[provider].parse_response(said), CLIENT)
    assert_same(CODECS[client].parse_response(heard), ANSWERS[name])


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_a_streamed_answer_arrives_and_says_the_same_as_a_whole_one(client: str, provider: str, name: str) -> None:
    encoder = CODECS[client].StreamEncoder(CLIENT)
    passed = [encoder.encode(event) for event in decoded(CODECS[provider], stream_of(CODECS[provider], ANSWERS[name]))]
    heard = b"".join(passed) + encoder.finish()
    assert_same(collected(decoded(CODECS[client], heard)), ANSWERS[name])


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_a_request_arrives(client: str, provider: str, name: str) -> None:
    asked = CODECS[client].render_request(REQUESTS[name], QUIRKS)
    parsed = CODECS[client].parse_request(json.dumps(asked.body).encode(), "m", False)
    sent = CODECS[provider].render_request(parsed, QUIRKS)
    got = CODECS[provider].parse_request(json.dumps(sent.body).encode(), "m", False)
    assert request_essence(got) == request_essence(REQUESTS[name])
    assert not sent.dropped and not asked.dropped


def request_essence(request: Request) -> dict[str, Any]:
    tools = [(tool.name, tool.description, tool.schema) for tool in request.tools if isinstance(tool, Tool)]
    choice = request.tool_choice
    return {
        "system": "".join(text.text for text in request.system),
        "turns": [(message.role, [part_essence(part) for part in message.parts]) for message in request.messages],
        "tools": [(name, description, (schema or {}).get("properties")) for name, description, schema in tools],
        "choice": (choice.mode, choice.names) if choice and (choice.mode, choice.names) != ("auto", ()) else None,
        "limits": (request.temperature, request.top_p),
        "schema": bool(request.response_format and request.response_format.schema),
        "thinks": request.reasoning is not None,
    }


def part_essence(part: Any) -> Any:
    match part:
        case ToolCall():
            return ("call", part.name, json.loads(part.arguments or "{}"))
        case ToolResult():
            return ("result", unwrapped("".join(item.text for item in part.content if isinstance(item, Text))))
        case _:
            return (type(part).__name__, getattr(part, "text", None) or getattr(part, "data", None))


def unwrapped(text: str) -> Any:
    """Some formats want an object around a result."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return next(iter(value.values())) if isinstance(value, dict) and set(value) <= {"result", "error", "output"} else value


@pytest.mark.parametrize("codec", CODECS)
@given(cuts=st.lists(st.integers(0, 5000), max_size=30), name=st.sampled_from(sorted(ANSWERS)))
@settings(max_examples=60)
def test_a_stream_cut_anywhere_is_the_same_stream(codec: str, cuts: list[int], name: str) -> None:
    stream = stream_of(CODECS[codec], ANSWERS[name])
    assert essence(collected(decoded(CODECS[codec], stream, cuts))) == essence(collected(decoded(CODECS[codec], stream)))


@pytest.mark.parametrize("codec", CODECS)
@given(st.binary(max_size=400))
def test_any_bytes_are_a_stream_without_an_exception(codec: str, junk: bytes) -> None:
    seen = decoded(CODECS[codec], junk)
    encoder = CODECS[codec].StreamEncoder(CLIENT)
    for event in seen:
        encoder.encode(event)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_a_stream_that_breaks_off_is_never_taken_for_complete(codec: str, cut: float) -> None:
    stream = stream_of(CODECS[codec], ANSWERS["parallel calls"])
    seen = decoded(CODECS[codec], stream[: int(len(stream) * cut)])
    assert any(isinstance(event, Failed) for event in seen) or any(isinstance(event, Finished) for event in seen)
    if cut < 0.5:
        assert isinstance(seen[-1], Failed)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad gateway</html>", b"[]", b"null", b'"no"', b'{"error": "flat"}', b'{"message": "m"}', b"\xff\xfe"]
)
@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_any_error_body_is_an_error_in_every_dialect(codec: str, body: bytes, status: int) -> None:
    failure = CODECS[codec].parse_error(status, body)
    assert 400 <= failure.status <= 599 and failure.message
    for client in CODECS.values():
        assert json.loads(client.render_error(failure, "req_1"))
        assert client.error_event(failure, "req_1")

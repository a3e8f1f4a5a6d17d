"""Fuzz tests: bodies and streams of vendors and clients that contain one mistake.

Codecs raise only documented exceptions, and decoders and meters raise none. Everything that was parsed can be
rendered in every format.
"""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.formats.anthropic import MessagesRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.gemini import GenerateContentRequest
from proxy.formats.json_body import guard_recursion, parse_object
from proxy.formats.neutral import Failed, Finished, InvalidRequest, InvalidUpstreamResponse
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.openai_responses import ResponsesRequest
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS, Body
from tests.proxy.formats.golden.cells import CLIENT_REQUEST, REQUESTS, RESPONSES
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.support.adapted_requests import render_adapted

ROUNDS = 600
"""Rounds for each format and kind, which take at most a second."""
QUIRKS = Quirks(server_tools=frozenset({"web_search", "web_fetch", "code_execution"}))
CLIENT_REQUEST_TYPES: dict[str, Callable[[bytes], ClientRequest]] = {
    "openai_chat": ChatRequest,
    "openai_responses": ResponsesRequest,
    "anthropic": MessagesRequest,
    "gemini": lambda body: GenerateContentRequest(body, "m", True),
}
DESTINATIONS = [
    Destination("openai", "openai_chat", "gpt-5.4"),
    Destination("mistral", "openai_chat", "mistral-large-latest"),
    Destination("openai", "openai_responses", "gpt-6"),
    Destination("anthropic", "anthropic", "claude-opus-4-8"),
    Destination("gemini", "gemini", "gemini-2.5-pro"),
]
NESTED: Any = json.loads("[" * 300 + "]" * 300)
ODD_VALUES: list[Any] = [None, True, -1, 0, 1e308, 10**400, 2**63, "", "x", "\ud800", "\x00", "tool_use"]
ODD_VALUES += [[], {}, [None], [[]], {"a": {}}, NESTED]
DEEP_VALUE = b"[" * 100_000
DEEPEST_PLACE = 20
formats = pytest.mark.parametrize("format", FORMATS)


def bodies(format: str, scenarios: dict[str, Any]) -> list[Body]:
    return [found[format] for found in scenarios.values() if found[format] is not None]


def broken(format: str, scenarios: dict[str, Any]) -> Iterator[Body]:
    """Yield the same bodies in every run, so that a failure can be repeated."""
    chance = random.Random(format)
    known = bodies(format, scenarios)
    for _ in range(ROUNDS):
        body = copy.deepcopy(chance.choice(known))
        for _ in range(chance.randint(1, 4)):
            mutate(body, chance)
        yield body


def mutate(body: Any, chance: random.Random) -> None:
    """Change one value, which may be nested deeply."""
    places = list(places_in(body))
    if not places:
        return
    holder, key = chance.choice(places)
    match chance.randint(0, 5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = copy.deepcopy(chance.choice(ODD_VALUES))
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = {"type": holder[key]}
        case 4 if isinstance(holder[key], str):
            holder[key] = holder[key][: len(holder[key]) // 2] + chance.choice(
                ["", "\ud83d", "\x00", "é" * 50]
            )
        case _:
            other, there = chance.choice(places)
            holder[key] = copy.deepcopy(other.get(there) if isinstance(other, dict) else None)


def places_in(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        if depth < DEEPEST_PLACE:
            yield from places_in(item, depth + 1)


def texts_of(body: Body) -> Iterator[bytes]:
    """Return the body with escapes, and without escapes if it contains no lone surrogates."""
    yield json.dumps(body).encode()
    yield json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


# Requests -----------------------------------------------------------------------------------------


@formats
def test_mutated_request_is_parsed_or_rejected(format: str) -> None:
    read = 0
    for body in broken(format, REQUESTS):
        for text in texts_of(body):
            read += is_read(format, text)
    assert read > ROUNDS / 4, "most of them should be readable, or nothing behind the parsers is tried"


def is_read(format: str, text: bytes) -> bool:
    try:
        request = guard_recursion(CODECS[format].parse_request, parse_object(text), "m", False)
    except InvalidRequest as rejected:
        assert str(rejected)
        return False
    for destination in DESTINATIONS:
        try:
            json.dumps(render_adapted(request, destination, QUIRKS).body)
        except InvalidRequest as rejected:
            assert str(rejected)
    return True


@formats
def test_mutated_request_passes_or_is_rejected(format: str) -> None:
    for body in broken(format, REQUESTS):
        for text in texts_of(body):
            try:
                client_request = CLIENT_REQUEST_TYPES[format](text)
            except InvalidRequest as rejected:
                assert str(rejected)
            else:
                assert client_request.facts.max_input_tokens >= 0 and client_request.path("m")


@formats
@pytest.mark.parametrize(
    "text",
    [
        DEEP_VALUE,
        b'{"messages":' + DEEP_VALUE,
        b'{"contents":' + DEEP_VALUE,
        b'{"input":' + DEEP_VALUE,
        b"\x00",
        b"\xff{}",
        b"{" + b" " * 9,
    ],
)
def test_non_request_body_is_rejected(format: str, text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        guard_recursion(CODECS[format].parse_request, parse_object(text), "m", False)
    with pytest.raises(InvalidRequest):
        CLIENT_REQUEST_TYPES[format](text)


# Answers ------------------------------------------------------------------------------------------


@formats
def test_mutated_response_is_parsed_or_invalid(format: str) -> None:
    read = 0
    for body in broken(format, RESPONSES):
        for text in texts_of(body):
            read += is_answer(format, text)
    assert read > ROUNDS / 4


def is_answer(format: str, text: bytes) -> bool:
    assert CODECS[format].parse_error(500, text).message
    try:
        response = CODECS[format].parse_response(text)
    except InvalidUpstreamResponse as rejected:
        assert str(rejected)
        return False
    for codec in CODECS.values():
        assert json.loads(codec.render_response(response, CLIENT_REQUEST))
    return True


@formats
def test_mutated_response_is_measured(format: str) -> None:
    client_request = CLIENT_REQUEST_TYPES[format](json.dumps(bodies(format, REQUESTS)[0]).encode())
    for body in broken(format, RESPONSES):
        for text in texts_of(body):
            usage, seen = client_request.measure(text)
            assert seen >= 0 and (usage is None or min(usage.prompt, usage.output) >= 0)


# Streams ------------------------------------------------------------------------------------------


def broken_streams(format: str) -> Iterator[bytes]:
    """Yield streams in which one event is changed, missing, repeated or truncated."""
    chance = random.Random(format)
    known = bodies(format, RESPONSES)
    for _ in range(ROUNDS):
        blank = b"\r\n\r\n" if format == "gemini" else b"\n\n"
        events = stream_of(format, chance.choice(known)).split(blank)[:-1]
        at = chance.randrange(len(events))
        events[at : at + 1] = broken_event(events[at], chance)
        yield blank.join([*events, b""])[: chance.choice([None, None, -7])]


def broken_event(event: bytes, chance: random.Random) -> list[bytes]:
    head, mark, data = event.partition(b"data: ")
    match chance.randint(0, 4):
        case 0:
            return []
        case 1:
            return [event, event]
        case 2:
            return [event[: len(event) // 2]]
        case _ if data.startswith(b"{"):
            body = json.loads(data)
            mutate(body, chance)
            return [head + mark + json.dumps(body).encode()]
        case _:
            return [event + b"\x00"]


@formats
def test_mutated_stream_is_encoded_to_its_end_in_every_format(format: str) -> None:
    for stream in broken_streams(format):
        decoder = CODECS[format].parse_stream()
        half = len(stream) // 2
        events = [*decoder.feed(stream[:half]), *decoder.feed(stream[half:]), *decoder.finish()]
        assert any(isinstance(event, Failed | Finished) for event in events)
        for codec in CODECS.values():
            encoder = codec.render_stream(CLIENT_REQUEST)
            assert b"".join(map(encoder.encode, events)) + encoder.finish()


@formats
def test_mutated_stream_passes_a_meter_unchanged(format: str) -> None:
    client_request = CLIENT_REQUEST_TYPES[format](json.dumps(bodies(format, REQUESTS)[0]).encode())
    for stream in broken_streams(format):
        meter = client_request.meter()
        half = len(stream) // 2
        passed = meter.feed(stream[:half]) + meter.feed(stream[half:]) + meter.finish()
        assert meter.output_tokens >= 0 and (passed.startswith(stream.rstrip()) or format == "openai_chat")


@formats
@pytest.mark.parametrize(
    "stream",
    [b"data: " + DEEP_VALUE + b"\n\n", b"data: {\x00}\n\n", b'data: {"type": "\\ud800"}\n\n', DEEP_VALUE],
)
def test_non_stream_body_fails_decoding_and_passes_the_meter(format: str, stream: bytes) -> None:
    decoder, meter = (
        CODECS[format].parse_stream(),
        CLIENT_REQUEST_TYPES[format](json.dumps(bodies(format, REQUESTS)[0]).encode()).meter(),
    )
    assert isinstance([*decoder.feed(stream), *decoder.finish()][-1], Failed)
    assert (meter.feed(stream) + meter.finish()).startswith(stream)

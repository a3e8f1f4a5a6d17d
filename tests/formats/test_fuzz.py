"""Bodies as vendors and their clients write them, with something broken in them: every codec answers with its own errors and no other,
decoders and meters never raise, and what is read can be written in every dialect."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from proxy.formats.anthropic import AnthropicCall
from proxy.formats.codec import Incoming, Quirks
from proxy.formats.gemini import GeminiCall
from proxy.formats.neutral import BadAnswer, BadRequest, Failed, Finished
from proxy.formats.openai_chat.relay import ChatCall
from proxy.formats.openai_responses import ResponsesCall
from tests.formats.golden.cells import ANSWERS, CLIENT, CODECS, REQUESTS
from tests.formats.golden.streams import stream_of
from tests.formats.golden.words import FORMATS, Body

ROUNDS = 600
"""For each format and kind: a second or less."""
QUIRKS = Quirks()
RELAYS: dict[str, Callable[[bytes], Incoming]] = {
    "openai_chat": ChatCall,
    "openai_responses": ResponsesCall,
    "anthropic": AnthropicCall,
    "gemini": lambda body: GeminiCall(body, "m", True),
}
NESTED: Any = json.loads("[" * 300 + "]" * 300)
ODD: list[Any] = [None, True, -1, 0, 1e308, 10**400, 2**63, "", "x", "\ud800", "\x00", "tool_use"]
ODD += [[], {}, [None], [[]], {"a": {}}, NESTED]
DEEP = b"[" * 100_000
DEEPEST_PLACE = 20
formats = pytest.mark.parametrize("format", FORMATS)


def bodies(format: str, scenarios: dict[str, Any]) -> list[Body]:
    return [found[format] for found in scenarios.values() if found[format] is not None]


def broken(format: str, scenarios: dict[str, Any]) -> Iterator[Body]:
    """The same ones in every run, so that what fails once fails again."""
    chance = random.Random(format)
    known = bodies(format, scenarios)
    for _ in range(ROUNDS):
        body = copy.deepcopy(chance.choice(known))
        for _ in range(chance.randint(1, 4)):
            spoil(body, chance)
        yield body


def spoil(body: Any, chance: random.Random) -> None:
    """Breaks one place, which may be deep inside."""
    places = list(places_in(body))
    if not places:
        return
    holder, key = chance.choice(places)
    match chance.randint(0, 5):
        case 0:
            del holder[key]
        case 1:
            holder[key] = copy.deepcopy(chance.choice(ODD))
        case 2:
            holder[key] = [holder[key]]
        case 3:
            holder[key] = {"type": holder[key]}
        case 4 if isinstance(holder[key], str):
            holder[key] = holder[key][: len(holder[key]) // 2] + chance.choice(["", "\ud83d", "\x00", "é" * 50])
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
    """With the halves of characters escaped; and raw, where the text has none."""
    yield json.dumps(body).encode()
    yield json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")


# Requests -----------------------------------------------------------------------------------------------------------------


@formats
def test_a_broken_request_is_read_or_refused(format: str) -> None:
    read = 0
    for body in broken(format, REQUESTS):
        for text in texts_of(body):
            read += is_read(format, text)
    assert read > ROUNDS / 4, "most of them should be readable, or nothing behind the parsers is tried"


def is_read(format: str, text: bytes) -> bool:
    try:
        request = CODECS[format].parse_request(text, "m", False)
    except BadRequest as refusal:
        assert str(refusal)
        return False
    for codec in CODECS.values():
        try:
            json.dumps(codec.render_request(request, QUIRKS).body)
        except BadRequest as refusal:
            assert str(refusal)
    return True


@formats
def test_a_broken_request_is_relayed_or_refused(format: str) -> None:
    for body in broken(format, REQUESTS):
        for text in texts_of(body):
            try:
                relayed = RELAYS[format](text)
            except BadRequest as refusal:
                assert str(refusal)
            else:
                assert relayed.call.input_bound >= 0 and relayed.path("m")


@formats
@pytest.mark.parametrize(
    "text", [DEEP, b'{"messages":' + DEEP, b'{"contents":' + DEEP, b'{"input":' + DEEP, b"\x00", b"\xff{}", b"{" + b" " * 9]
)
def test_what_is_no_request_is_refused(format: str, text: bytes) -> None:
    with pytest.raises(BadRequest):
        CODECS[format].parse_request(text, "m", False)
    with pytest.raises(BadRequest):
        RELAYS[format](text)


# Answers ------------------------------------------------------------------------------------------------------------------


@formats
def test_a_broken_answer_is_read_or_a_bad_answer(format: str) -> None:
    read = 0
    for body in broken(format, ANSWERS):
        for text in texts_of(body):
            read += is_answer(format, text)
    assert read > ROUNDS / 4


def is_answer(format: str, text: bytes) -> bool:
    assert CODECS[format].parse_error(500, text).message
    try:
        response = CODECS[format].parse_response(text)
    except BadAnswer as refusal:
        assert str(refusal)
        return False
    for codec in CODECS.values():
        assert json.loads(codec.render_response(response, CLIENT))
    return True


@formats
def test_a_broken_answer_is_measured(format: str) -> None:
    relay = RELAYS[format](json.dumps(bodies(format, REQUESTS)[0]).encode())
    for body in broken(format, ANSWERS):
        for text in texts_of(body):
            usage, seen = relay.measure(text)
            assert seen >= 0 and (usage is None or min(usage.prompt, usage.output) >= 0)


# Streams ------------------------------------------------------------------------------------------------------------------


def broken_streams(format: str) -> Iterator[bytes]:
    """Events of a sound stream with something broken in one of them, one left out, doubled or cut."""
    chance = random.Random(format)
    known = bodies(format, ANSWERS)
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
            spoil(body, chance)
            return [head + mark + json.dumps(body).encode()]
        case _:
            return [event + b"\x00"]


@formats
def test_a_broken_stream_is_told_to_its_end_in_every_dialect(format: str) -> None:
    for stream in broken_streams(format):
        decoder = CODECS[format].StreamDecoder()
        half = len(stream) // 2
        events = [*decoder.feed(stream[:half]), *decoder.feed(stream[half:]), *decoder.finish()]
        assert any(isinstance(event, Failed | Finished) for event in events)
        for codec in CODECS.values():
            encoder = codec.StreamEncoder(CLIENT)
            assert b"".join(map(encoder.encode, events)) + encoder.finish()


@formats
def test_a_broken_stream_passes_a_meter_whole(format: str) -> None:
    relay = RELAYS[format](json.dumps(bodies(format, REQUESTS)[0]).encode())
    for stream in broken_streams(format):
        meter = relay.meter()
        half = len(stream) // 2
        passed = meter.feed(stream[:half]) + meter.feed(stream[half:]) + meter.finish()
        assert meter.output_seen >= 0 and (passed.startswith(stream.rstrip()) or format == "openai_chat")


@formats
@pytest.mark.parametrize("stream", [b"data: " + DEEP + b"\n\n", b"data: {\x00}\n\n", b'data: {"type": "\\ud800"}\n\n', DEEP])
def test_what_is_no_stream_fails_and_passes(format: str, stream: bytes) -> None:
    decoder, meter = CODECS[format].StreamDecoder(), RELAYS[format](json.dumps(bodies(format, REQUESTS)[0]).encode()).meter()
    assert isinstance([*decoder.feed(stream), *decoder.finish()][-1], Failed)
    assert (meter.feed(stream) + meter.finish()).startswith(stream)

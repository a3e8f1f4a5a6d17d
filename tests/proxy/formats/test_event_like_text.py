"""Streams whose text looks like a part of the protocol are metered and converted like any other."""

import re
from typing import Any

import pytest

from proxy.formats.neutral import Finished, PartDelta
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS
from tests.proxy.formats.golden.cells import REQUESTS, encode_body
from tests.proxy.formats.golden.response_text import text
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.proxy.formats.test_fuzz import CLIENT_REQUEST_TYPES, bodies

TEXTS = (
    "response.output_text.delta",
    "response.output_item.done",
    "response.completed",
    "response.failed",
    "error",
    "web_search_call",
    "usage",
    "message_stop",
    "server_tool_use",
    "[DONE]",
    "event: error",
)
EVENT_NAME = re.compile(rb"^event: .*\n", re.MULTILINE)

formats = pytest.mark.parametrize("format", FORMATS)
texts = pytest.mark.parametrize("word", TEXTS)


def stream_with(format: str, word: str) -> bytes:
    """Return a stream that contains the word as a delta, and at the end of the complete text."""
    body = text(word * 2)[format]
    assert body is not None
    return stream_of(format, body)


def metered(format: str, stream: bytes) -> Any:
    meter = CLIENT_REQUEST_TYPES[format](encode_body(bodies(format, REQUESTS)[0])).meter()
    meter.feed(stream)
    meter.finish()
    return meter.usage, meter.error, meter.provider_failed, meter.saw_final_event, meter.server_tool_calls


@formats
@texts
@pytest.mark.parametrize("named", [True, False], ids=["named events", "data only"])
def test_text_like_an_event_does_not_change_the_meter(format: str, word: str, named: bool) -> None:
    stream, plain = stream_with(format, word), stream_with(format, "Hello")
    if not named:
        stream, plain = EVENT_NAME.sub(b"", stream), EVENT_NAME.sub(b"", plain)
    assert metered(format, stream) == metered(format, plain)
    assert metered(format, stream)[1] is None


@formats
@texts
def test_text_like_an_event_is_decoded_as_text(format: str, word: str) -> None:
    decoder = CODECS[format].parse_stream()
    events = [*decoder.feed(stream_with(format, word)), *decoder.finish()]
    assert "".join(event.text for event in events if isinstance(event, PartDelta)) == word * 2
    assert any(isinstance(event, Finished) for event in events)


@texts
def test_text_like_an_event_does_not_hide_the_ids_of_a_response(word: str) -> None:
    reader = ResponsesIdReader(can_be_named=True)
    for event in stream_with("openai_responses", word).split(b"\n\n")[-2:]:
        reader.read_event(event + b"\n\n")
    assert {kind for kind, _ in reader.issued} == {"response", "item"}

"""Streams of all formats: split at any byte, interrupted, or replaced by other data."""

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.formats.neutral import Event, Failed, Finished
from proxy.formats.registry import CODECS
from tests.proxy.formats.golden.builders import FORMATS
from tests.proxy.formats.golden.cells import CLIENT_REQUEST, RESPONSES, without_generated_values
from tests.proxy.formats.golden.stream_readers import read_stream
from tests.proxy.formats.golden.stream_writers import stream_of

formats = pytest.mark.parametrize("format", FORMATS)


def decoded(format: str, stream: bytes, cuts: Sequence[int] = ()) -> list[Event]:
    decoder = CODECS[format].parse_stream()
    edges = [0, *sorted({cut % max(len(stream), 1) for cut in cuts}), len(stream)]
    seen: list[Event] = [
        event for start, end in itertools.pairwise(edges) for event in decoder.feed(stream[start:end])
    ]
    return [*seen, *decoder.finish()]


def encoded_stream(format: str, scenario: str) -> bytes:
    body = RESPONSES[scenario][format]
    return b"" if body is None else stream_of(format, body)


@formats
@given(
    cuts=st.lists(st.integers(0, 5000), max_size=30),
    scenario=st.sampled_from(sorted(RESPONSES)),
    crlf=st.booleans(),
)
@settings(max_examples=100)
def test_stream_decodes_the_same_wherever_it_is_cut(
    format: str, cuts: list[int], scenario: str, crlf: bool
) -> None:
    stream = encoded_stream(format, scenario)
    stream = stream.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if crlf else stream
    for client in CODECS:
        encoder = CODECS[client].render_stream(CLIENT_REQUEST)
        encoded = (
            b"".join(encoder.encode(event) for event in decoded(format, stream, cuts)) + encoder.finish()
        )
        assert not stream or without_generated_values(
            read_stream(client, encoded)
        ) == without_generated_values(read_stream(client, unbroken(client, format, scenario)))


def unbroken(client: str, format: str, scenario: str) -> bytes:
    encoder = CODECS[client].render_stream(CLIENT_REQUEST)
    stream: bytes = (
        b"".join(encoder.encode(event) for event in decoded(format, encoded_stream(format, scenario)))
        + encoder.finish()
    )
    return stream


@formats
@given(st.binary(max_size=400))
def test_arbitrary_bytes_never_raise(format: str, junk: bytes) -> None:
    encoder = CODECS[format].render_stream(CLIENT_REQUEST)
    for event in decoded(format, junk):
        encoder.encode(event)


@formats
@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_interrupted_stream_is_never_complete(format: str, cut: float) -> None:
    stream = encoded_stream(format, "parallel tool calls")
    seen = decoded(format, stream[: int(len(stream) * cut)])
    assert isinstance(seen[-1], Failed) or any(isinstance(event, Finished) for event in seen)
    if cut < 0.5:
        assert isinstance(seen[-1], Failed)


@formats
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"[]",
        b"null",
        b'"no"',
        b'{"error": "flat"}',
        b'{"message": "m"}',
        b"\xff\xfe",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_arbitrary_error_body_is_an_error_in_every_format(format: str, body: bytes, status: int) -> None:
    failure = CODECS[format].parse_error(status, body)
    assert 400 <= failure.status <= 599 and failure.message
    for client in CODECS.values():
        assert json.loads(client.render_error(failure, "req_1"))
        assert client.render_error_event(failure, "req_1")

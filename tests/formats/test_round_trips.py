"""From one format to another and back: what both can say is kept. What each can say is data, in words.py."""

import itertools
import json

import pytest
from hypothesis import Phase, given, settings
from msgspec.structs import replace

from proxy.formats.codec import Quirks
from proxy.formats.neutral import Inexpressible, Request, Response
from tests.formats.golden.cells import CLIENT, CODECS
from tests.formats.golden.words import FORMATS
from tests.formats.scenarios import collected, events
from tests.formats.words import ANSWER_WORDS, REFUSED, REQUEST_WORDS, SHOWN_ELSEWHERE, answered, answers, limited, requests, said

QUIRKS = Quirks()
FOUND_AND_TOLD = (Phase.explicit, Phase.reuse, Phase.generate)
"""A request that fails is told as it was found: making it smaller takes minutes."""
PAIRS = pytest.mark.parametrize(("here", "there"), list(itertools.permutations(FORMATS, 2)))


def sent(format: str, request: Request) -> Request:
    """A request as it is read after it was written."""
    body = CODECS[format].render_request(request, QUIRKS).body
    read: Request = CODECS[format].parse_request(json.dumps(body).encode(), "m", request.stream)
    return read


@pytest.mark.parametrize("format", FORMATS)
@given(request=requests())
@settings(max_examples=60, phases=FOUND_AND_TOLD)
def test_a_request_is_read_as_it_was_written(format: str, request: Request) -> None:
    words = REQUEST_WORDS[format]
    written = limited(request, words)
    assert said(sent(format, written), words) == said(written, words)


@PAIRS
@given(request=requests())
@settings(max_examples=25, phases=FOUND_AND_TOLD)
def test_a_request_comes_back_from_another_format(here: str, there: str, request: Request) -> None:
    both = REQUEST_WORDS[here] & REQUEST_WORDS[there]
    written = limited(without_thinking(request, here, there), REQUEST_WORDS[here] - (SHOWN_ELSEWHERE - REQUEST_WORDS[there]))
    try:
        arrived = sent(there, sent(here, written))
    except Inexpressible:
        assert REFUSED & REQUEST_WORDS[here] - REQUEST_WORDS[there]
        return
    assert said(arrived, both) == said(written, both)
    assert said(sent(here, arrived), both) == said(written, both)


def without_thinking(request: Request, here: str, there: str) -> Request:
    """With Anthropic, a model that thinks takes neither a temperature nor a forced call, and room for its thoughts."""
    return replace(request, reasoning=None) if "anthropic" in (here, there) else request


def whole(format: str, response: Response) -> Response:
    read: Response = CODECS[format].parse_response(CODECS[format].render_response(response, CLIENT))
    return read


def streamed(format: str, response: Response) -> Response:
    encoder, decoder = CODECS[format].StreamEncoder(replace(CLIENT, stream=True)), CODECS[format].StreamDecoder()
    stream = b"".join(encoder.encode(event) for event in events(response)) + encoder.finish()
    return collected([*decoder.feed(stream), *decoder.finish()])


@pytest.mark.parametrize("format", FORMATS)
@given(response=answers())
@settings(max_examples=60, phases=FOUND_AND_TOLD)
def test_an_answer_is_read_as_it_was_written_and_its_stream_says_the_same(format: str, response: Response) -> None:
    words = ANSWER_WORDS[format]
    assert answered(whole(format, response), words) == answered(response, words)
    assert answered(streamed(format, response), words) == answered(response, words)


@PAIRS
@given(response=answers())
@settings(max_examples=25, phases=FOUND_AND_TOLD)
def test_an_answer_comes_back_from_another_format(here: str, there: str, response: Response) -> None:
    both = ANSWER_WORDS[here] & ANSWER_WORDS[there]
    for trip in (whole, streamed):
        assert answered(trip(here, trip(there, trip(here, response))), both) == answered(response, both)

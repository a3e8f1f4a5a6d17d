"""Round trips from one format to another and back keep everything that both formats support."""

import itertools
import json

import pytest
from hypothesis import Phase, given, settings
from msgspec.structs import replace

from proxy.formats.json_body import parse_object
from proxy.formats.neutral import Request, Response, UnsupportedFeature
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from tests.proxy.formats.conversion.capabilities import (
    REFUSED,
    REQUEST_CAPABILITIES,
    RESPONSE_CAPABILITIES,
    SHOWN_BY_DEFAULT_ELSEWHERE,
)
from tests.proxy.formats.conversion.comparison import (
    expected_subset,
    normalize_request,
    normalize_response,
)
from tests.proxy.formats.conversion.strategies import requests, responses
from tests.proxy.formats.golden.builders import FORMATS
from tests.proxy.formats.golden.cells import CLIENT_REQUEST
from tests.proxy.formats.scenarios import collect_response, events

QUIRKS = Quirks()
ROUND_TRIP_EXCEPTIONS = (Phase.explicit, Phase.reuse, Phase.generate)
"""Without shrinking: a failing request is shown as it was found, because shrinking it takes minutes."""
PAIRS = pytest.mark.parametrize(("here", "there"), list(itertools.permutations(FORMATS, 2)))


def render_and_parse(format: str, request: Request) -> Request:
    """Render a request in a format, and parse the result."""
    body = CODECS[format].render_request(request, QUIRKS).body
    read: Request = CODECS[format].parse_request(parse_object(json.dumps(body).encode()), "m", request.stream)
    return read


@pytest.mark.parametrize("format", FORMATS)
@given(request=requests())
@settings(max_examples=60, phases=ROUND_TRIP_EXCEPTIONS)
def test_request_survives_rendering_and_parsing(format: str, request: Request) -> None:
    words = REQUEST_CAPABILITIES[format]
    written = expected_subset(request, words)
    assert normalize_request(render_and_parse(format, written), words) == normalize_request(written, words)


@PAIRS
@given(request=requests())
@settings(max_examples=25, phases=ROUND_TRIP_EXCEPTIONS)
def test_request_survives_a_round_trip_through_another_format(
    here: str, there: str, request: Request
) -> None:
    both = REQUEST_CAPABILITIES[here] & REQUEST_CAPABILITIES[there]
    written = expected_subset(
        without_thinking(request, here, there),
        REQUEST_CAPABILITIES[here] - (SHOWN_BY_DEFAULT_ELSEWHERE - REQUEST_CAPABILITIES[there]),
    )
    try:
        arrived = render_and_parse(there, render_and_parse(here, written))
    except UnsupportedFeature:
        assert REFUSED & REQUEST_CAPABILITIES[here] - REQUEST_CAPABILITIES[there]
        return
    assert normalize_request(arrived, both) == normalize_request(written, both)
    assert normalize_request(render_and_parse(here, arrived), both) == normalize_request(written, both)


def without_thinking(request: Request, here: str, there: str) -> Request:
    """Return the request without thinking.

    With Anthropic, a thinking model accepts neither a temperature nor a forced call, and needs room for
    thinking.
    """
    return replace(request, reasoning=None) if "anthropic" in (here, there) else request


def response_round_trip(format: str, response: Response) -> Response:
    read: Response = CODECS[format].parse_response(CODECS[format].render_response(response, CLIENT_REQUEST))
    return read


def stream_round_trip(format: str, response: Response) -> Response:
    encoder, decoder = (
        CODECS[format].render_stream(replace(CLIENT_REQUEST, stream=True)),
        CODECS[format].parse_stream(),
    )
    stream = b"".join(encoder.encode(event) for event in events(response)) + encoder.finish()
    return collect_response([*decoder.feed(stream), *decoder.finish()])


@pytest.mark.parametrize("format", FORMATS)
@given(response=responses())
@settings(max_examples=60, phases=ROUND_TRIP_EXCEPTIONS)
def test_response_and_its_stream_survive_rendering_and_parsing(format: str, response: Response) -> None:
    words = RESPONSE_CAPABILITIES[format]
    assert normalize_response(response_round_trip(format, response), words) == normalize_response(
        response, words
    )
    assert normalize_response(stream_round_trip(format, response), words) == normalize_response(
        response, words
    )


@PAIRS
@given(response=responses())
@settings(max_examples=25, phases=ROUND_TRIP_EXCEPTIONS)
def test_response_survives_a_round_trip_through_another_format(
    here: str, there: str, response: Response
) -> None:
    both = RESPONSE_CAPABILITIES[here] & RESPONSE_CAPABILITIES[there]
    for trip in (response_round_trip, stream_round_trip):
        assert normalize_response(trip(here, trip(there, trip(here, response))), both) == normalize_response(
            response, both
        )

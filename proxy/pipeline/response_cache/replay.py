"""Replay of a cached response, in the form that the client wants.

A response is stored as its client received it. A client that wants the same form gets the same bytes. If one
client streams and the other does not, the response is decoded and rendered again in their common format.
"""

from dataclasses import dataclass
from time import perf_counter

from msgspec.structs import replace

from billing.models import Outcome
from billing.money import decimal_usd
from proxy import telemetry
from proxy.cache.entry import CachedResponse
from proxy.cache.key import form_of
from proxy.formats import openai_chat
from proxy.formats.codec import ClientRequest, Codec
from proxy.formats.neutral import (
    Failed,
    InvalidRequest,
    InvalidUpstreamResponse,
    Response,
)
from proxy.formats.registry import CODECS
from proxy.formats.streaming.collector import collect
from proxy.formats.streaming.part_queue import events_of_response
from proxy.http import responses
from proxy.http.responses import ChunkedResponse, Headers, ResponseWriter
from proxy.pipeline.admission import Admitted
from proxy.pipeline.conversion import JSON_TYPE, parse_request
from proxy.pipeline.settle import RequestResult

STATUS = 200
REASONING_DETAILS = b'"reasoning_details"'
"""Field of a stream of chat completions that repeats thinking whose text was sent before."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A cached response, and its body in the form that the client wants."""

    response: CachedResponse
    body: bytes

    def replay(self, admitted: Admitted, writer: ResponseWriter) -> RequestResult:
        """Send the response. It costs nothing."""
        parsed = admitted.planned.routed.parsed
        headers = {**admitted.headers(), **self.headers(parsed.client_request)}
        overhead_s = perf_counter() - parsed.caller.received.started_at
        headers["x-gateway-overhead-ms"] = f"{overhead_s * 1000:.3f}"
        streams = parsed.client_request.facts.stream
        writer.respond(
            ChunkedResponse(STATUS, headers, [self.body])
            if streams
            else responses.Response(STATUS, headers, self.body)
        )
        telemetry.cache_saved(self.response.cost_nano)
        return RequestResult(Outcome.CACHED, STATUS, saved_nano=self.response.cost_nano)

    def headers(self, request: ClientRequest) -> Headers:
        """Return the headers that describe the cached response."""
        content_type = self.response.content_type
        if form_of(request) != self.response.form:
            content_type = request.stream_content_type if request.facts.stream else JSON_TYPE
        headers = {
            "content-type": content_type,
            "x-gateway-cache": "hit",
            "age": str(self.response.age_s),
            "x-cost-usd": decimal_usd(0),
        }
        return headers | ({"x-gateway-dropped": self.response.dropped} if self.response.dropped else {})


def find_hit(response: CachedResponse, format: str, request: ClientRequest) -> Hit | None:
    """Return the cached response for a client, or None if it cannot be rendered in the wanted form."""
    if response.form == form_of(request):
        return Hit(response, response.body)
    body = render(response, format, request)
    return None if body is None else Hit(response, body)


def render(response: CachedResponse, format: str, request: ClientRequest) -> bytes | None:
    """Render a response in the form that a client wants, or return None if that is not possible."""
    codec = CODECS[format]
    decoded = decode_response(codec, response)
    if decoded is None or repeats_thinking(format, response):
        return None
    try:
        neutral = parse_request(request, format)
        if request.facts.stream:
            encoder = request.encoder(neutral)
            return b"".join(map(encoder.encode, events_of_response(decoded))) + encoder.finish()
        return codec.render_response(replace(decoded, created=int(response.created_at)), neutral)
    except InvalidRequest:
        return None


def repeats_thinking(format: str, response: CachedResponse) -> bool:
    """Return whether a stream may contain its thinking twice, so that it cannot be rendered again."""
    return bool(response.form) and format == openai_chat.FORMAT and REASONING_DETAILS in response.body


def decode_response(codec: Codec, response: CachedResponse) -> Response | None:
    """Return the neutral form of a response, with its usage, or None if it cannot be decoded."""
    if response.form:
        decoded = decode_stream(codec, response.body)
    else:
        try:
            decoded = codec.parse_response(response.body)
        except InvalidUpstreamResponse:
            decoded = None
    return None if decoded is None else replace(decoded, usage=decoded.usage or response.usage)


def decode_stream(codec: Codec, body: bytes) -> Response | None:
    """Return the response of a complete stream, or None if it cannot be decoded."""
    decoder = codec.parse_stream()
    events = [*decoder.feed(body), *decoder.finish()]
    return None if any(isinstance(event, Failed) for event in events) else collect(events)

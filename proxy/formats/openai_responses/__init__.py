"""OpenAI Responses (platform.openai.com/docs/api-reference/responses)."""

from proxy.formats.openai_responses.content import FORMAT
from proxy.formats.openai_responses.decoder import StreamDecoder, StreamEncoder
from proxy.formats.openai_responses.passthrough import ResponsesRequest, request_path
from proxy.formats.openai_responses.request import parse_request, render_request, stateful_fields
from proxy.formats.openai_responses.response import (
    parse_error,
    parse_response,
    render_error,
    render_error_event,
    render_response,
)

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "FORMAT",
    "ResponsesRequest",
    "StreamDecoder",
    "StreamEncoder",
    "parse_error",
    "parse_request",
    "parse_response",
    "parse_stream",
    "render_error",
    "render_error_event",
    "render_request",
    "render_response",
    "render_stream",
    "request_path",
    "stateful_fields",
]

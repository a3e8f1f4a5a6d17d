"""Anthropic Messages."""

from proxy.formats.anthropic.decoder import StreamDecoder
from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.passthrough import CountTokensRequest, MessagesRequest
from proxy.formats.anthropic.request import parse_request, render_request, request_path
from proxy.formats.anthropic.response import (
    parse_error,
    parse_response,
    render_error,
    render_error_event,
    render_response,
)
from proxy.formats.neutral import Origin

FORMAT: Origin = "anthropic"

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "FORMAT",
    "CountTokensRequest",
    "MessagesRequest",
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
]

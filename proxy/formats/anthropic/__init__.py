"""Anthropic Messages."""

from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.relay import CountTokensRequest, MessagesRequest
from proxy.formats.anthropic.request import parse_request, render_request, request_path
from proxy.formats.anthropic.response import parse_error, parse_response, render_error, render_error_event, render_response
from proxy.formats.anthropic.stream import StreamDecoder

FORMAT = "anthropic"

__all__ = [
    "FORMAT",
    "CountTokensRequest",
    "MessagesRequest",
    "StreamDecoder",
    "StreamEncoder",
    "parse_error",
    "parse_request",
    "parse_response",
    "render_error",
    "render_error_event",
    "render_request",
    "render_response",
    "request_path",
]

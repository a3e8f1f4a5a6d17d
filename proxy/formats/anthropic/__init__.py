"""Anthropic Messages."""

from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.relay import AnthropicCall, CountTokensCall
from proxy.formats.anthropic.request import parse_request, render_request, request_path
from proxy.formats.anthropic.response import error_event, parse_error, parse_response, render_error, render_response
from proxy.formats.anthropic.stream import StreamDecoder

NAME = "anthropic"

__all__ = [
    "NAME",
    "AnthropicCall",
    "CountTokensCall",
    "StreamDecoder",
    "StreamEncoder",
    "error_event",
    "parse_error",
    "parse_request",
    "parse_response",
    "render_error",
    "render_request",
    "render_response",
    "request_path",
]

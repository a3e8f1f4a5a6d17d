"""OpenAI Chat Completions, and the many servers that speak it too."""

from proxy.formats.neutral import Origin
from proxy.formats.openai_chat.decoder import StreamDecoder, StreamEncoder
from proxy.formats.openai_chat.passthrough import ChatRequest, request_path
from proxy.formats.openai_chat.request import parse_request, render_request
from proxy.formats.openai_chat.response import (
    parse_error,
    parse_response,
    render_error,
    render_error_event,
    render_response,
)

FORMAT: Origin = "openai_chat"

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "FORMAT",
    "ChatRequest",
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

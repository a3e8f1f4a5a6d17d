"""OpenAI Chat Completions, and the many servers that speak it too."""

from proxy.formats.openai_chat.relay import ChatCall, request_path
from proxy.formats.openai_chat.request import parse_request, render_request
from proxy.formats.openai_chat.response import error_event, parse_error, parse_response, render_error, render_response
from proxy.formats.openai_chat.stream import StreamDecoder, StreamEncoder

NAME = "openai_chat"

__all__ = [
    "NAME",
    "ChatCall",
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

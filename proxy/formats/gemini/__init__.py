"""Gemini's generateContent and streamGenerateContent, v1beta (ai.google.dev/api/generate-content).

Google's JSON is that of protocol buffers: clients write camelCase or snake_case, the model and whether to stream stand in the
address, and a stream is a row of whole answers, each with what is new.
"""

from proxy.formats.gemini.relay import GeminiCall, request_path
from proxy.formats.gemini.request import parse_request, render_request
from proxy.formats.gemini.response import error_event, parse_error, parse_response, render_error, render_response
from proxy.formats.gemini.stream import StreamDecoder, StreamEncoder

NAME = "gemini"

__all__ = [
    "NAME",
    "GeminiCall",
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

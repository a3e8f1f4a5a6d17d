"""Gemini's generateContent and streamGenerateContent, v1beta (ai.google.dev/api/generate-content).

Google's JSON is the JSON form of protocol buffers, so a client may write field names in camelCase or in
snake_case. The URL names the model and says whether to stream. Each chunk of a stream has the form of a
complete response, but contains only the new content.
"""

from proxy.formats.gemini.capabilities import server_tools_for
from proxy.formats.gemini.decoder import StreamDecoder
from proxy.formats.gemini.encoder import StreamEncoder
from proxy.formats.gemini.errors import CONTEXT_LENGTH_WORDS, parse_error, render_error, render_error_event
from proxy.formats.gemini.passthrough import GenerateContentRequest, rendered_facts
from proxy.formats.gemini.request import (
    parse_request,
    render_max_tokens,
    render_request,
    request_path,
)
from proxy.formats.gemini.response import parse_response, render_response
from proxy.formats.gemini.seals import without_seals
from proxy.formats.gemini.usage import billed_items, measure
from proxy.formats.gemini.wire import FORMAT

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "CONTEXT_LENGTH_WORDS",
    "FORMAT",
    "GenerateContentRequest",
    "StreamDecoder",
    "StreamEncoder",
    "billed_items",
    "measure",
    "parse_error",
    "parse_request",
    "parse_response",
    "parse_stream",
    "render_error",
    "render_error_event",
    "render_max_tokens",
    "render_request",
    "render_response",
    "render_stream",
    "rendered_facts",
    "request_path",
    "server_tools_for",
    "without_seals",
]

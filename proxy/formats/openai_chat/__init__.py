"""Codec of OpenAI's chat completions, a format that many other servers use too."""

from proxy.formats.openai_chat.capabilities import server_tools_for
from proxy.formats.openai_chat.decoder import StreamDecoder
from proxy.formats.openai_chat.encoder import StreamEncoder
from proxy.formats.openai_chat.errors import (
    CONTEXT_LENGTH_WORDS,
    parse_error,
    render_error,
    render_error_event,
)
from proxy.formats.openai_chat.passthrough import ChatRequest, rendered_facts
from proxy.formats.openai_chat.request import (
    parse_request,
    render_max_tokens,
    render_request,
    request_path,
)
from proxy.formats.openai_chat.response import parse_response, render_response
from proxy.formats.openai_chat.seals import without_seals
from proxy.formats.openai_chat.usage import billed_items, measure
from proxy.formats.openai_chat.wire import FORMAT

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "CONTEXT_LENGTH_WORDS",
    "FORMAT",
    "ChatRequest",
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

"""Codec of Anthropic's Messages API (platform.claude.com/docs/en/api/messages)."""

from proxy.formats.anthropic.capabilities import server_tools_for
from proxy.formats.anthropic.count_tokens import CountTokensRequest
from proxy.formats.anthropic.decoder import StreamDecoder
from proxy.formats.anthropic.encoder import StreamEncoder
from proxy.formats.anthropic.errors import CONTEXT_LENGTH_WORDS, parse_error, render_error, render_error_event
from proxy.formats.anthropic.passthrough import MessagesRequest, rendered_facts
from proxy.formats.anthropic.request import (
    parse_request,
    render_max_tokens,
    render_request,
    request_path,
)
from proxy.formats.anthropic.response import parse_response, render_response
from proxy.formats.anthropic.seals import without_seals
from proxy.formats.anthropic.usage import billed_items, measure
from proxy.formats.anthropic.wire import FORMAT

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "CONTEXT_LENGTH_WORDS",
    "FORMAT",
    "CountTokensRequest",
    "MessagesRequest",
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

"""Codec of OpenAI's Responses API (platform.openai.com/docs/api-reference/responses)."""

from proxy.formats.openai_responses.capabilities import server_tools_for, stateful_features
from proxy.formats.openai_responses.decoder import StreamDecoder
from proxy.formats.openai_responses.encoder import StreamEncoder
from proxy.formats.openai_responses.errors import (
    CONTEXT_LENGTH_WORDS,
    parse_error,
    render_error,
    render_error_event,
)
from proxy.formats.openai_responses.passthrough import ResponsesRequest, rendered_facts
from proxy.formats.openai_responses.request import (
    parse_request,
    render_max_tokens,
    render_request,
    request_path,
)
from proxy.formats.openai_responses.response import parse_response, render_response
from proxy.formats.openai_responses.seals import without_seals
from proxy.formats.openai_responses.usage import billed_items, measure
from proxy.formats.openai_responses.wire import FORMAT

parse_stream = StreamDecoder
render_stream = StreamEncoder

__all__ = [
    "CONTEXT_LENGTH_WORDS",
    "FORMAT",
    "ResponsesRequest",
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
    "stateful_features",
    "without_seals",
]

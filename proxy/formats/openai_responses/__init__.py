"""OpenAI Responses (platform.openai.com/docs/api-reference/responses)."""

from proxy.formats.openai_responses.items import NAME
from proxy.formats.openai_responses.relay import ResponsesCall, request_path
from proxy.formats.openai_responses.request import parse_request, render_request, stateful_fields
from proxy.formats.openai_responses.response import error_event, parse_error, parse_response, render_error, render_response
from proxy.formats.openai_responses.stream import StreamDecoder, StreamEncoder

__all__ = [
    "NAME",
    "ResponsesCall",
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
    "stateful_fields",
]

"""Answers and errors of the Messages API, both ways (platform.claude.com/docs/en/api/messages, .../api/errors)."""

import re
from typing import Any, assert_never
from uuid import uuid4

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.content import (
    DECODE_ERRORS,
    FORMAT,
    add_origin,
    decode_any,
    parse_response_content,
    render_text,
    render_thinking,
    render_tool_call,
)
from proxy.formats.anthropic.usage import WireUsage, render_usage, whole_usage
from proxy.formats.json_body import encode, repair_json
from proxy.formats.neutral import (
    ApiError,
    Choice,
    Citation,
    File,
    FinishReason,
    Image,
    InvalidRequest,
    InvalidUpstreamResponse,
    Opaque,
    Part,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Usage,
)
from proxy.formats.provider_errors import message_of, text_of
from proxy.formats.tool_calls import unique_call_id

FINISH_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
    "pause_turn": "pause",
}
STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "pause": "pause_turn",
    "other": "end_turn",
}
ERROR_TYPES = {
    "invalid_request_error": ("invalid_request", "invalid_request_error", 400),
    "request_too_large": ("invalid_request", "request_too_large", 413),
    "authentication_error": ("auth", "invalid_api_key", 401),
    "permission_error": ("auth", "insufficient_permissions", 403),
    "billing_error": ("rate_limit", "insufficient_quota", 402),
    "not_found_error": ("unknown_model", "model_not_found", 404),
    "rate_limit_error": ("rate_limit", "rate_limit_exceeded", 429),
    "timeout_error": ("timeout", "upstream_timeout", 504),
    "overloaded_error": ("server_error", "overloaded", 529),
    "api_error": ("server_error", "server_error", 500),
}
"""By the error's type: kind, code, and the status that it has where a stream has none of its own."""
ERROR_TYPE_BY_STATUS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
HTML_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
MAX_MESSAGE_LENGTH = 2000


class WireResponse(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = Raw(b"null")
    error: Any = None


decode_response = msgspec.json.Decoder(WireResponse).decode
decode_usage = msgspec.json.Decoder(WireUsage).decode


# Answers ------------------------------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Raises BadAnswer."""
    try:
        answer = decode_response(repair_json(body))
        if answer.content is None or answer.error is not None:
            raise InvalidUpstreamResponse(parse_error(502, body).message)
        seen: set[str] = set()
        parts = tuple(
            with_unique_id(part, seen)
            for part in parse_response_content(answer.content)
            if not (isinstance(part, Text) and not part.text)
        )
    except (*DECODE_ERRORS, InvalidRequest) as error:
        raise InvalidUpstreamResponse(f"The provider's answer cannot be read: {error}") from None
    finish = parse_finish_reason(
        answer.stop_reason, has_calls=any(isinstance(part, ToolCall) for part in parts)
    )
    choice = Choice(parts=parts, finish_reason=finish, stop_sequence=answer.stop_sequence)
    return Response(
        id=answer.id or "", model=answer.model or "", choices=(choice,), usage=parse_raw_usage(answer.usage)
    )


def with_unique_id(part: Part, used_ids: set[str]) -> Part:
    return replace(part, id=unique_call_id(part.id, used_ids)) if isinstance(part, ToolCall) else part


def parse_finish_reason(reason: str | None, *, has_calls: bool) -> FinishReason:
    finish = FINISH_REASONS.get(reason or "end_turn", "other")
    return "tool_calls" if has_calls and finish == "stop" else finish


def parse_raw_usage(raw: Raw) -> Usage | None:
    usage = decode_wire_usage(raw)
    return whole_usage(usage) if usage else None


def decode_wire_usage(raw: Raw) -> WireUsage | None:
    try:
        return decode_usage(raw)
    except DECODE_ERRORS:
        return None


def render_response(response: Response, request: Request) -> bytes:
    """The first choice: this format has one only."""
    choice = response.choices[0] if response.choices else Choice()
    return encode(
        {
            **render_message_head(response.id, response.model or request.model),
            "content": [block for part in choice.parts for block in render_response_part(part)],
            **render_stop_fields(choice.finish_reason, choice.stop_sequence),
            "usage": render_usage(response.usage),
        }
    )


def render_message_head(id: str, model: str) -> dict[str, Any]:
    own = id if id.startswith("msg_") else f"msg_{uuid4().hex[:24]}"
    return {"id": own, "type": "message", "role": "assistant", "model": model}


def render_stop_fields(finish_reason: FinishReason, stop_sequence: str | None) -> dict[str, Any]:
    at_sequence = finish_reason == "stop" and stop_sequence is not None
    return {
        "stop_reason": "stop_sequence" if at_sequence else STOP_REASONS[finish_reason],
        "stop_sequence": stop_sequence,
    }


def render_response_part(part: Part) -> list[dict[str, Any]]:
    """A part of an answer in blocks that any client knows: none where there are no words for it."""
    match part:
        case Text():
            return [render_cited_text(part)] if part.text else []
        case Refusal():
            return [{"type": "text", "text": part.text}] if part.text else []
        case Thinking():
            return render_thinking_blocks(part)
        case ToolCall():
            signed = [render_signature_block(part.signature, part)] if part.signature else []
            return [*signed, render_tool_call(part)]
        case Image() | File():
            return [{"type": "text", "text": text}] if (text := render_markdown_link(part)) else []
        case Opaque():
            return [part.value] if part.origin == FORMAT else []
        case ToolResult():
            return []
        case _:
            assert_never(part)


def render_cited_text(part: Text) -> dict[str, Any]:
    cited = (
        {"citations": [render_citation(citation) for citation in part.citations]} if part.citations else {}
    )
    return render_text(part) | cited


def render_citation(citation: Citation) -> dict[str, Any]:
    """A result of a search on the web. The index is for Anthropic's own search to find it again, and no other has one."""
    source = {"type": "web_search_result_location", "url": citation.url, "title": citation.title or None}
    return source | {"cited_text": citation.quote, "encrypted_index": ""}


def render_thinking_blocks(part: Thinking) -> list[dict[str, Any]]:
    """Thoughts that only their origin can read may come with a summary in words: a block each."""
    blocks = []
    if part.text or part.signature:
        blocks.append(render_thinking(replace(part, redacted=None)))
    if part.redacted is not None:
        blocks.append(render_thinking(part))
    return blocks


def render_signature_block(signature: str, call: ToolCall) -> dict[str, Any]:
    """An empty thought before a signed call: the client gives it back with the history, and with it the signature."""
    return {"type": "thinking", "thinking": "", "signature": add_origin(signature, call.origin)}


def render_markdown_link(part: Image | File) -> str:
    """Claude answers in text alone, so its clients know no other media."""
    address = part.url or (
        f"data:{part.media_type or 'application/octet-stream'};base64,{part.data}" if part.data else ""
    )
    if not address:
        return ""
    return f"![image]({address})" if isinstance(part, Image) else f"[{part.name or 'file'}]({address})"


# Errors -------------------------------------------------------------------------------------------------------------------


def parse_error(status: int, body: bytes) -> ApiError:
    """Whatever came: this API's error, another's, a proxy's page or nothing."""
    try:
        value = decode_any(body)
    except DECODE_ERRORS:
        return build_error(status, "", html_to_text(body))
    kind, message = parse_error_fields(value)
    return build_error(status, kind, message)


def parse_error_fields(value: Any) -> tuple[str, str]:
    """The error's type and message, as this API and those that imitate it nest them."""
    match value:
        case [first, *_]:
            return parse_error_fields(first)
        case {"error": dict() as error}:
            return text_of(error.get("type")), message_of(error)
        case _:
            return "", message_of(value)


def html_to_text(body: bytes) -> str:
    return " ".join(HTML_TAG.sub(" ", body.decode(errors="replace")).split())


def build_error(status: int, type: str, message: str) -> ApiError:
    known = (
        type
        if type in ERROR_TYPES
        else ERROR_TYPE_BY_STATUS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    )
    kind, code, _ = ERROR_TYPES[known]
    if known == "not_found_error" and "model" not in message.lower():
        kind, code = "invalid_request", "not_found"
    return ApiError(
        kind=kind,
        code=code,
        message=message[:MAX_MESSAGE_LENGTH] or f"The provider answered with status {status}.",
        status=status,
    )


def parse_stream_error(error: Any, data: bytes) -> ApiError:
    """An error inside a stream, with the status that it would have had before it."""
    try:
        type, message = parse_error_fields(decode_any(data))
    except DECODE_ERRORS:
        type, message = parse_error_fields({"error": error})
    status = ERROR_TYPES[type][2] if type in ERROR_TYPES else 500
    return build_error(status, type, message or "The provider reported an error in the middle of its answer.")


def render_error(api_error: ApiError, request_id: str) -> bytes:
    error = {"type": "error", "error": {"type": render_error_type(api_error), "message": api_error.message}}
    return encode(error | {"request_id": request_id} if request_id else error)


def render_error_type(error: ApiError) -> str:
    """Anthropic's own word for it (docs, "Errors")."""
    match error.kind, error.status:
        case ("auth", 403):
            return "permission_error"
        case ("auth", _):
            return "authentication_error"
        case ("unknown_model", _) | (_, 404):
            return "not_found_error"
        case ("rate_limit", status):
            return "billing_error" if status == 402 else "rate_limit_error"
        case ("timeout", _):
            return "timeout_error"
        case ("invalid_request", status):
            return "request_too_large" if status == 413 else "invalid_request_error"
        case (_, 503 | 529):
            return "overloaded_error"
        case _:
            return "api_error"


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """The same as an event of a stream that has begun."""
    return b"event: error\ndata: " + render_error(api_error, request_id) + b"\n\n"

"""Answers and errors of the Messages API, both ways (platform.claude.com/docs/en/api/messages, .../api/errors)."""

import re
from typing import Any, assert_never
from uuid import uuid4

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.content import (
    ORIGIN,
    UNREADABLE,
    decode_any,
    parse_answer,
    render_call,
    render_text,
    render_thinking,
    sealed,
)
from proxy.formats.anthropic.usage import WireUsage, render_usage, whole_usage
from proxy.formats.body import encode, mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.neutral import (
    BadAnswer,
    BadRequest,
    Choice,
    Citation,
    Failure,
    File,
    FinishReason,
    Image,
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

FINISHES: dict[str, FinishReason] = {
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
KINDS = {
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
TYPES_BY_STATUS = {
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
TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
LONGEST_MESSAGE = 2000


class WireAnswer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Raw = Raw(b"null")
    error: Any = None


decode_answer = msgspec.json.Decoder(WireAnswer).decode
decode_usage = msgspec.json.Decoder(WireUsage).decode


# Answers ------------------------------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Raises BadAnswer."""
    try:
        answer = decode_answer(mended(body))
        if answer.content is None or answer.error is not None:
            raise BadAnswer(parse_error(502, body).message)
        seen: set[str] = set()
        parts = tuple(with_id(part, seen) for part in parse_answer(answer.content) if not (isinstance(part, Text) and not part.text))
    except (*UNREADABLE, BadRequest) as error:
        raise BadAnswer(f"The provider's answer cannot be read: {error}") from None
    finish = finish_of(answer.stop_reason, called=any(isinstance(part, ToolCall) for part in parts))
    choice = Choice(parts=parts, finish=finish, stop_sequence=answer.stop_sequence)
    return Response(id=answer.id or "", model=answer.model or "", choices=(choice,), usage=parse_usage(answer.usage))


def with_id(part: Part, seen: set[str]) -> Part:
    return replace(part, id=fresh_call_id(part.id, seen)) if isinstance(part, ToolCall) else part


def finish_of(reason: str | None, *, called: bool) -> FinishReason:
    finish = FINISHES.get(reason or "end_turn", "other")
    return "tool_calls" if called and finish == "stop" else finish


def parse_usage(raw: Raw) -> Usage | None:
    usage = wire_usage(raw)
    return whole_usage(usage) if usage else None


def wire_usage(raw: Raw) -> WireUsage | None:
    try:
        return decode_usage(raw)
    except UNREADABLE:
        return None


def render_response(response: Response, request: Request) -> bytes:
    """The first choice: this format has one only."""
    choice = response.choices[0] if response.choices else Choice()
    return encode(
        {
            **message_head(response.id, response.model or request.model),
            "content": [block for part in choice.parts for block in answer_blocks(part)],
            **stop_fields(choice.finish, choice.stop_sequence),
            "usage": render_usage(response.usage),
        }
    )


def message_head(id: str, model: str) -> dict[str, Any]:
    own = id if id.startswith("msg_") else f"msg_{uuid4().hex[:24]}"
    return {"id": own, "type": "message", "role": "assistant", "model": model}


def stop_fields(finish: FinishReason, stop_sequence: str | None) -> dict[str, Any]:
    at_sequence = finish == "stop" and stop_sequence is not None
    return {"stop_reason": "stop_sequence" if at_sequence else STOP_REASONS[finish], "stop_sequence": stop_sequence}


def answer_blocks(part: Part) -> list[dict[str, Any]]:
    """A part of an answer in blocks that any client knows: none where there are no words for it."""
    match part:
        case Text():
            return [cited_text(part)] if part.text else []
        case Refusal():
            return [{"type": "text", "text": part.text}] if part.text else []
        case Thinking():
            return thinking_blocks(part)
        case ToolCall():
            signed = [signature_block(part.signature, part)] if part.signature else []
            return [*signed, render_call(part)]
        case Image() | File():
            return [{"type": "text", "text": text}] if (text := as_markdown(part)) else []
        case Opaque():
            return [part.value] if part.origin == ORIGIN else []
        case ToolResult():
            return []
        case _:
            assert_never(part)


def cited_text(part: Text) -> dict[str, Any]:
    cited = {"citations": [render_citation(citation) for citation in part.citations]} if part.citations else {}
    return render_text(part) | cited


def render_citation(citation: Citation) -> dict[str, Any]:
    """A result of a search on the web. The index is for Anthropic's own search to find it again, and no other has one."""
    source = {"type": "web_search_result_location", "url": citation.url, "title": citation.title or None}
    return source | {"cited_text": citation.quote, "encrypted_index": ""}


def thinking_blocks(part: Thinking) -> list[dict[str, Any]]:
    """Thoughts that only their origin can read may come with a summary in words: a block each."""
    blocks = []
    if part.text or part.signature:
        blocks.append(render_thinking(replace(part, redacted=None)))
    if part.redacted is not None:
        blocks.append(render_thinking(part))
    return blocks


def signature_block(signature: str, call: ToolCall) -> dict[str, Any]:
    """An empty thought before a signed call: the client gives it back with the history, and with it the signature."""
    return {"type": "thinking", "thinking": "", "signature": sealed(signature, call.origin)}


def as_markdown(part: Image | File) -> str:
    """Claude answers in text alone, so its clients know no other media."""
    address = part.url or (f"data:{part.mime or 'application/octet-stream'};base64,{part.data}" if part.data else "")
    if not address:
        return ""
    return f"![image]({address})" if isinstance(part, Image) else f"[{part.name or 'file'}]({address})"


# Errors -------------------------------------------------------------------------------------------------------------------


def parse_error(status: int, body: bytes) -> Failure:
    """Whatever came: this API's error, another's, a proxy's page or nothing."""
    try:
        value = decode_any(body)
    except UNREADABLE:
        return failure_of(status, "", plain_words(body))
    kind, message = described(value)
    return failure_of(status, kind, message)


def described(value: Any) -> tuple[str, str]:
    """The error's type and message, as this API and those that imitate it nest them."""
    match value:
        case [first, *_]:
            return described(first)
        case {"error": dict() as error}:
            return text_of(error.get("type")), message_of(error)
        case _:
            return "", message_of(value)


def plain_words(body: bytes) -> str:
    return " ".join(TAG.sub(" ", body.decode(errors="replace")).split())


def failure_of(status: int, type: str, message: str) -> Failure:
    known = type if type in KINDS else TYPES_BY_STATUS.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")
    kind, code, _ = KINDS[known]
    if known == "not_found_error" and "model" not in message.lower():
        kind, code = "invalid_request", "not_found"
    return Failure(kind=kind, code=code, message=message[:LONGEST_MESSAGE] or f"The provider answered with status {status}.", status=status)


def stream_failure(error: Any, data: bytes) -> Failure:
    """An error inside a stream, with the status that it would have had before it."""
    try:
        type, message = described(decode_any(data))
    except UNREADABLE:
        type, message = described({"error": error})
    status = KINDS[type][2] if type in KINDS else 500
    return failure_of(status, type, message or "The provider reported an error in the middle of its answer.")


def render_error(failure: Failure, request_id: str) -> bytes:
    error = {"type": "error", "error": {"type": error_type(failure), "message": failure.message}}
    return encode(error | {"request_id": request_id} if request_id else error)


def error_type(failure: Failure) -> str:
    """Anthropic's own word for it (docs, "Errors")."""
    match failure.kind, failure.status:
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


def error_event(failure: Failure, request_id: str) -> bytes:
    """The same as an event of a stream that has begun."""
    return b"event: error\ndata: " + render_error(failure, request_id) + b"\n\n"

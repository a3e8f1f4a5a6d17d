"""Responses of the Messages API, parsed and rendered (platform.claude.com/docs/en/api/messages)."""

from collections.abc import Iterable, Mapping
from typing import Any, assert_never
from uuid import uuid4

from msgspec.structs import replace

from proxy.formats.anthropic.content import (
    parse_response_parts,
    render_text,
    render_thinking,
    render_tool_call,
)
from proxy.formats.anthropic.errors import parse_error
from proxy.formats.anthropic.usage import parse_usage, render_usage
from proxy.formats.anthropic.wire import FORMAT, decode_response
from proxy.formats.json_body import DECODE_ERRORS, decode_value, encode, repair_json
from proxy.formats.neutral import (
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
    VendorTool,
)
from proxy.formats.tool_calls import with_unique_id
from proxy.formats.tools.names import vendor_tools

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


def parse_response(body: bytes) -> Response:
    """Parse a response. Raises InvalidUpstreamResponse."""
    try:
        response = decode_response(repair_json(body))
        if response.content is None or response.error is not None:
            raise InvalidUpstreamResponse(parse_error(502, body).message)
        used_ids: set[str] = set()
        parts = tuple(
            with_unique_id(part, used_ids)
            for part in parse_response_parts(response.content)
            if not (isinstance(part, Text) and not part.text)
        )
    except (*DECODE_ERRORS, InvalidRequest) as error:
        raise InvalidUpstreamResponse(f"The provider's response cannot be decoded: {error}") from None
    finish = parse_finish_reason(
        response.stop_reason, has_calls=any(isinstance(part, ToolCall) for part in parts)
    )
    choice = Choice(parts=parts, finish_reason=finish, stop_sequence=response.stop_sequence)
    return Response(
        id=response.id or "",
        model=response.model or "",
        choices=(choice,),
        usage=parse_usage(decode_value(response.usage), response.content),
    )


def parse_finish_reason(reason: str | None, *, has_calls: bool) -> FinishReason:
    finish = FINISH_REASONS.get(reason or "end_turn", "other")
    return "tool_calls" if has_calls and finish == "stop" else finish


def render_response(response: Response, request: Request) -> bytes:
    """Render the first choice, because this format has only one."""
    choice = response.choices[0] if response.choices else Choice()
    own_tools = vendor_tools(request, FORMAT)
    return encode(
        {
            **render_message_head(response.id, response.model or request.model),
            "content": render_blocks(choice.parts, own_tools),
            **render_stop_fields(choice.finish_reason, choice.stop_sequence),
            "usage": render_usage(response.usage),
        }
    )


def render_blocks(parts: Iterable[Part], own_tools: Mapping[str, VendorTool]) -> list[dict[str, Any]]:
    """Render the blocks of a response.

    Gemini may send a signature after its last text. It would be an empty thinking block at the end. It is
    left out, because clients show the last block.
    """
    blocks = [block for part in parts for block in render_response_part(part, own_tools)]
    while blocks and is_signature_block(blocks[-1]):
        blocks.pop()
    return blocks


def is_signature_block(block: dict[str, Any]) -> bool:
    """Return whether a block is thinking without a text, which contains only a signature."""
    return bool(block["type"] == "thinking" and not block["thinking"])


def render_message_head(id: str, model: str) -> dict[str, Any]:
    message_id = id if id.startswith("msg_") else f"msg_{uuid4().hex[:24]}"
    return {"id": message_id, "type": "message", "role": "assistant", "model": model}


def render_stop_fields(finish_reason: FinishReason, stop_sequence: str | None) -> dict[str, Any]:
    at_sequence = finish_reason == "stop" and stop_sequence is not None
    return {
        "stop_reason": "stop_sequence" if at_sequence else STOP_REASONS[finish_reason],
        "stop_sequence": stop_sequence,
    }


def render_response_part(part: Part, own_tools: Mapping[str, VendorTool]) -> list[dict[str, Any]]:
    """Render a part of a response as blocks.

    The list is empty if clients of this format cannot read the part.

    `own_tools` contains the client's vendor tools, by name.
    """
    match part:
        case Text():
            return [render_cited_text(part)] if part.text else []
        case Refusal():
            return [{"type": "text", "text": part.text}] if part.text else []
        case Thinking():
            return render_thinking_blocks(part)
        case ToolCall():
            signature_blocks = [render_signature_block(part.signature, part)] if part.signature else []
            return [*signature_blocks, render_tool_call(part, own_tools.get(part.name))]
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
    """Render a citation as the location of a web search result.

    The citation's encrypted index is empty, because only Anthropic's search can create one.
    """
    source = {"type": "web_search_result_location", "url": citation.url, "title": citation.title or None}
    return source | {"cited_text": citation.quote, "encrypted_index": ""}


def render_thinking_blocks(part: Thinking) -> list[dict[str, Any]]:
    """Render thinking as a block of its text and signature, and a second block for redacted content."""
    blocks = []
    if part.text or part.signature:
        blocks.append(render_thinking(replace(part, redacted=None)))
    if part.redacted is not None:
        blocks.append(render_thinking(part))
    return blocks


def render_signature_block(signature: str, call: ToolCall) -> dict[str, Any]:
    """Render the signature of a call as an empty thinking block before the call.

    The client sends the block, and therefore the signature, back with the history.
    """
    return render_thinking(Thinking(signature=signature, origin=call.origin))


def render_markdown_link(part: Image | File) -> str:
    """Render media as a Markdown link.

    Claude responds only in text, so its clients do not support other media.
    """
    address = part.url or (
        f"data:{part.media_type or 'application/octet-stream'};base64,{part.data}" if part.data else ""
    )
    if not address:
        return ""
    return f"![image]({address})" if isinstance(part, Image) else f"[{part.name or 'file'}]({address})"

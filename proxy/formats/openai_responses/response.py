"""Responses of the Responses API, parsed and rendered; streams use the functions for single items too."""

import time
from typing import Any, Literal

import msgspec

from proxy.formats.json_body import as_str, dict_items, encode, repair_json
from proxy.formats.media import is_base64
from proxy.formats.neutral import (
    Choice,
    FinishReason,
    Image,
    InvalidUpstreamResponse,
    Opaque,
    Part,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    ToolCall,
)
from proxy.formats.openai_responses.content import (
    PARAGRAPH_BREAK,
    new_id,
    parse_content,
    parse_tool_call,
    render_output_text,
    render_tool_call,
)
from proxy.formats.openai_responses.errors import parse_error_object
from proxy.formats.openai_responses.opaque_parts import parse_opaque_part
from proxy.formats.openai_responses.reasoning import (
    parse_reasoning_item,
    render_thinking,
)
from proxy.formats.openai_responses.request import render_response_format
from proxy.formats.openai_responses.summaries import render_summary, wants_summary
from proxy.formats.openai_responses.tools import (
    OwnTools,
    group_fields,
    max_tool_calls,
    render_declarations,
    render_tool_choice,
)
from proxy.formats.openai_responses.typed_calls import ID_PREFIXES, render_typed_call
from proxy.formats.openai_responses.usage import parse_usage, render_usage
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.tool_calls import with_unique_id

Status = Literal["in_progress", "completed", "incomplete", "failed"]


# Reading ------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Return the neutral response. Raises InvalidUpstreamResponse."""
    try:
        wire = msgspec.json.decode(repair_json(body), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidUpstreamResponse("The provider's response is not a JSON object.") from None
    if wire.get("error") or wire.get("status") == "failed":
        raise InvalidUpstreamResponse(parse_error_object(wire).message)
    if not isinstance(wire.get("output"), list):
        raise InvalidUpstreamResponse("The provider's response has no output.")
    items = dict_items(wire["output"])
    seen: set[str] = set()
    parts = tuple(with_unique_id(part, seen) for item in items for part in parse_output_item(item))
    return Response(
        id=as_str(wire.get("id")),
        model=as_str(wire.get("model")),
        choices=(
            Choice(
                parts=parts,
                finish_reason=parse_finish_reason(wire, has_tool_calls(parts)),
                logprobs=parse_logprobs(items),
            ),
        ),
        usage=parse_usage(wire),
        created=int(created) if isinstance(created := wire.get("created_at"), int | float) else None,
    )


def parse_output_item(item: dict[str, Any]) -> tuple[Part, ...]:
    """Return the parts of an output item. A call of a server tool becomes an opaque part."""
    match item.get("type"):
        case "message":
            return tuple(
                part
                for part in parse_content(item.get("content"))
                if not isinstance(part, Text | Refusal) or part.text
            )
        case "function_call" | "custom_tool_call":
            return (parse_tool_call(item),)
        case "reasoning":
            return tuple(
                msgspec.structs.replace(thinking, origin=thinking.origin or FORMAT)
                for thinking in parse_reasoning_item(item)
            )
        case "image_generation_call" if is_base64(as_str(item.get("result"))):
            return (
                Image(media_type=f"image/{as_str(item.get('output_format')) or 'png'}", data=item["result"]),
            )
        case kind:
            return (parse_opaque_part(item, as_str(kind) or "item"),)


def has_tool_calls(parts: tuple[Part, ...]) -> bool:
    return any(isinstance(part, ToolCall) for part in parts)


def parse_logprobs(items: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(
        entry
        for item in items
        for part in dict_items(item.get("content"))
        for entry in dict_items(part.get("logprobs"))
    )


def parse_finish_reason(wire: dict[str, Any], has_calls: bool) -> FinishReason:
    details = wire.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    match wire.get("status"), reason:
        case "completed" | None, _:
            return "tool_calls" if has_calls else "stop"
        case _, "max_output_tokens":
            return "length"
        case _, "content_filter":
            return "content_filter"
        case _:
            return "other"


# Writing ------------------------------------------------------------------------------------------


def render_response(response: Response, request: Request) -> bytes:
    choice = response.choices[0] if response.choices else Choice()
    status, details = render_status(choice.finish_reason)
    wire = response_skeleton(request, response.model, response.created) | {
        "status": status,
        "incomplete_details": details,
        "output": render_output(choice, request, status),
        "usage": render_usage(response.usage),
    }
    return encode(wire)


def response_skeleton(request: Request, model: str, created: int | None) -> dict[str, Any]:
    """Return the fields of a response that is in progress and has no output yet.

    The values are the settings of the request. Settings that the request does not have get OpenAI's defaults.
    """
    extras, reasoning = request.unmapped_settings, request.reasoning
    wanted = (
        render_response_format(request.response_format)
        if request.response_format
        else {"format": {"type": "text"}}
    )
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": created or int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": PARAGRAPH_BREAK.join(text.text for text in request.system) or None,
        "max_output_tokens": request.max_tokens,
        "max_tool_calls": extras.get("max_tool_calls") or max_tool_calls(request),
        "model": model or request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": extras.get("prompt_cache_key"),
        "reasoning": {
            "effort": reasoning and reasoning.effort,
            "summary": "auto" if reasoning and reasoning.visible else None,
        },
        "safety_identifier": extras.get("safety_identifier"),
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {**wanted, "verbosity": extras.get("text.verbosity", "medium")},
        "tool_choice": render_tool_choice(request.tool_choice, request) if request.tool_choice else "auto",
        "tools": render_declarations(request),
        "top_logprobs": request.logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": extras.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
        "metadata": extras.get("metadata", {}),
    }


def render_status(finish_reason: FinishReason) -> tuple[Status, dict[str, str] | None]:
    match finish_reason:
        case "length" | "pause":
            return "incomplete", {"reason": "max_output_tokens"}
        case "content_filter":
            return "incomplete", {"reason": "content_filter"}
        case "other":
            return "incomplete", None
        case _:
            return "completed", None


def render_output(choice: Choice, request: Request, status: Status) -> list[dict[str, Any]]:
    """Render the output items. If the client asks for a compaction, the only item is the summary.

    Adjacent texts become contents of one message. The first text gets the log probabilities of the whole
    response.
    """
    if wants_summary(request.messages):
        return render_summary("".join(part.text for part in choice.parts if isinstance(part, Text)))
    items: list[dict[str, Any]] = []
    logprobs, own_tools = choice.logprobs, OwnTools(request)
    for part in choice.parts:
        match part:
            case Text() | Refusal():
                if not items or items[-1].get("type") != "message":
                    items.append(render_message_item(new_id("msg"), [], status))
                items[-1]["content"].append(render_content(part, logprobs))
                logprobs = ()
            case ToolCall():
                items += render_signed_call(part, own_tools)
            case _:
                items += render_other_items(part)
    return items


def render_message_item(item_id: str, content: list[dict[str, Any]], status: Status) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "content": content, "role": "assistant"}


def render_content(part: Text | Refusal, logprobs: tuple[Any, ...]) -> dict[str, Any]:
    match part:
        case Text():
            return render_output_text(part.text, part.citations, logprobs)
        case Refusal():
            return {"type": "refusal", "refusal": part.text}


def render_signed_call(call: ToolCall, own_tools: OwnTools) -> list[dict[str, Any]]:
    """Render a call as an item. If the call has a signature, a reasoning item with it comes before."""
    signature = render_thinking(Thinking(signature=call.signature, origin=call.origin))
    item = render_call_item(call, own_tools)
    return [signature, item] if signature else [item]


def render_call_item(call: ToolCall, own_tools: OwnTools, status: Status = "completed") -> dict[str, Any]:
    """Render a call as an item, with the type and the name with which the client has declared the tool."""
    vendor = own_tools.declared.get(call.name)
    if vendor is not None and not vendor.group:
        typed = render_typed_call(call, vendor.kind)
        return {"id": new_id(ID_PREFIXES[vendor.kind]), "status": status, **typed}
    free = call.custom or call.name in own_tools.custom
    item = {"id": new_id("ctc" if free else "fc"), "status": status, **render_tool_call(call, free)}
    return item | group_fields(vendor)


def render_other_items(part: Part) -> list[dict[str, Any]]:
    """Render a part that is not a text, a refusal or a call of a client's tool.

    Opaque parts of another format are left out.
    """
    match part:
        case Thinking():
            item = render_thinking(part)
            return [item] if item else []
        case Image(data=str() as data):
            return [
                {"id": new_id("ig"), "type": "image_generation_call", "status": "completed", "result": data}
            ]
        case Opaque(origin="openai_responses", value=dict() as value):
            return [value]
        case _:
            return []

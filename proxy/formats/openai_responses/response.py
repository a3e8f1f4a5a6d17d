"""A provider's whole answer in this format, the same for a client, and errors."""

import re
import time
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import encode, repair_json
from proxy.formats.metering.token_counts import detail_count, input_and_output
from proxy.formats.neutral import (
    ApiError,
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
    Usage,
)
from proxy.formats.openai_responses.content import (
    FORMAT,
    PARAGRAPH_BREAK,
    add_origin,
    as_str,
    dict_items,
    is_base64,
    new_id,
    parse_content,
    parse_reasoning_item,
    parse_tool_call,
    render_output_text,
    render_reasoning_item,
    render_tool_call,
)
from proxy.formats.openai_responses.request import render_response_format
from proxy.formats.openai_responses.server_tools import with_billable_extras
from proxy.formats.openai_responses.tools import custom_tool_names, render_tool, render_tool_choice
from proxy.formats.provider_errors import message_of
from proxy.formats.tool_calls import unique_call_id

MAX_TOKENS = 2**31 - 1
MAX_SEQUENCE_NUMBER = 2**31 - 1
"""An error that is added to a stream comes after everything in it, whatever number that had."""
HTML_TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
MAX_MESSAGE_LENGTH = 1000
STATUS_BY_CODE = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
}
CODE_BY_KIND = {
    "unknown_model": "model_not_found",
    "auth": "invalid_api_key",
    "rate_limit": "rate_limit_exceeded",
    "timeout": "upstream_timeout",
    "invalid_request": "invalid_request_error",
    "server_error": "server_error",
}
Status = Literal["in_progress", "completed", "incomplete", "failed"]


class WireUsage(msgspec.Struct):
    """Loose in its fields: compatible servers are found to write counts as floats, and an empty list for no details."""

    input_tokens: Any = None
    output_tokens: Any = None
    total_tokens: Any = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None


# From the provider --------------------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Raises BadAnswer."""
    try:
        answer = msgspec.json.decode(repair_json(body), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidUpstreamResponse("The provider's answer is not a JSON object.") from None
    if answer.get("error") or answer.get("status") == "failed":
        raise InvalidUpstreamResponse(parse_error_object(answer).message)
    if not isinstance(answer.get("output"), list):
        raise InvalidUpstreamResponse("The provider's answer has no output.")
    items = dict_items(answer["output"])
    seen: set[str] = set()
    parts = tuple(with_unique_id(part, seen) for item in items for part in parse_output_item(item))
    return Response(
        id=as_str(answer.get("id")),
        model=as_str(answer.get("model")),
        choices=(
            Choice(
                parts=parts,
                finish_reason=parse_finish_reason(answer, has_tool_calls(parts)),
                logprobs=parse_logprobs(items),
            ),
        ),
        usage=parse_usage(answer),
        created=int(created) if isinstance(created := answer.get("created_at"), int | float) else None,
    )


def parse_output_item(item: dict[str, Any]) -> tuple[Part, ...]:
    """What an item of the output gives the client. What a tool of the provider did is no call to the client's tools."""
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
            thinking = parse_reasoning_item(item)
            return (thinking,) if thinking.text or thinking.signature or thinking.redacted else ()
        case "image_generation_call" if is_base64(as_str(item.get("result"))):
            return (
                Image(media_type=f"image/{as_str(item.get('output_format')) or 'png'}", data=item["result"]),
            )
        case kind:
            return (Opaque(origin=FORMAT, kind=as_str(kind) or "item", value=item),)


def with_unique_id(part: Part, used_ids: set[str]) -> Part:
    return replace(part, id=unique_call_id(part.id, used_ids)) if isinstance(part, ToolCall) else part


def has_tool_calls(parts: tuple[Part, ...]) -> bool:
    return any(isinstance(part, ToolCall) for part in parts)


def parse_logprobs(items: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(
        entry
        for item in items
        for part in dict_items(item.get("content"))
        for entry in dict_items(part.get("logprobs"))
    )


def parse_finish_reason(answer: dict[str, Any], has_calls: bool) -> FinishReason:
    details = answer.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    match answer.get("status"), reason:
        case "completed" | None, _:
            return "tool_calls" if has_calls else "stop"
        case _, "max_output_tokens":
            return "length"
        case _, "content_filter":
            return "content_filter"
        case _:
            return "other"


def parse_usage(answer: dict[str, Any]) -> Usage | None:
    try:
        usage = usage_from_wire(msgspec.convert(answer.get("usage"), WireUsage))
    except msgspec.ValidationError:
        return None
    return usage and with_billable_extras(
        usage, answer.get("service_tier"), answer.get("output"), answer.get("tools"), answer.get("tool_usage")
    )


def usage_from_wire(wire: WireUsage) -> Usage | None:
    """Disjoint buckets: OpenAI counts what it read from and wrote to its cache inside the input. None for counts that are
    absent, mistyped or absurd.
    """
    counts = input_and_output(wire.input_tokens, wire.output_tokens, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), details = counts, wire.input_tokens_details
    cached, written = detail_count(details, "cached_tokens"), detail_count(details, "cache_write_tokens")
    reasoning = detail_count(wire.output_tokens_details, "reasoning_tokens")
    if not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, reasoning)):
        return None
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    # Compatible servers that state more reasoning than output did not count it there.
    output += reasoning if reasoning > output else 0
    return Usage(
        input=prompt - cached - written,
        cache_read=cached,
        cache_write_5m=written,
        output=output,
        reasoning=reasoning,
    )


def parse_error(status: int, body: bytes) -> ApiError:
    """An error's body, whatever it is: OpenAI's, a flat one, a list of them, a page of HTML or nothing."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode(errors="replace").strip()
        found = HTML_TITLE.search(text)
        value = {"message": found[1] if found else "" if text.startswith("<") else text}
    if isinstance(value, list):
        value = value[0] if value else {}
    return parse_error_object(value if isinstance(value, dict) else {"message": as_str(value)}, status)


def parse_error_object(answer: dict[str, Any], status: int | None = None) -> ApiError:
    """The failure that an error's body, event or failed answer tells. `status` is what it came with, if it came with an error's."""
    error = answer.get("error")
    stated = error if isinstance(error, dict) else answer
    message = message_of(stated)
    code = as_str(stated.get("code")) or as_str(stated.get("type") if stated is error else None)
    if status is None or status < 400:
        status = STATUS_BY_CODE.get(code, 400 if code.startswith("invalid_") or "image" in code else 500)
    kind = error_kind(status, code)
    return ApiError(
        kind=kind,
        code=code or CODE_BY_KIND[kind],
        message=message[:MAX_MESSAGE_LENGTH] or f"The provider answered with status {status}.",
        param=as_str(stated.get("param")) or None,
        status=status,
    )


def error_kind(status: int, code: str) -> str:
    if code == "model_not_found":
        return "unknown_model"
    match status:
        case 401 | 403:
            return "auth"
        case 408 | 504:
            return "timeout"
        case 429:
            return "rate_limit"
        case _:
            return "invalid_request" if status < 500 else "server_error"


# To the client ------------------------------------------------------------------------------------------------------------


def render_response(response: Response, request: Request) -> bytes:
    choice = response.choices[0] if response.choices else Choice()
    status, details = render_status(choice.finish_reason)
    answer = response_skeleton(request, response.model, response.created) | {
        "status": status,
        "incomplete_details": details,
        "output": render_output(choice, custom_tool_names(request), status),
        "usage": render_usage(response.usage),
    }
    return encode(answer)


def response_skeleton(request: Request, model: str, created: int | None) -> dict[str, Any]:
    """An answer as it begins: it repeats the request's settings, and states the vendor's defaults for the others."""
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
        "max_tool_calls": extras.get("max_tool_calls"),
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
        "tool_choice": render_tool_choice(request.tool_choice, custom_tool_names(request))
        if request.tool_choice
        else "auto",
        "tools": [render_tool(tool) for tool in request.tools],
        "top_logprobs": request.logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": extras.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
        "metadata": extras.get("metadata", {}),
    }


def render_status(finish_reason: FinishReason) -> tuple[Status, dict[str, str] | None]:
    match finish_reason:
        case "length":
            return "incomplete", {"reason": "max_output_tokens"}
        case "content_filter":
            return "incomplete", {"reason": "content_filter"}
        case "other":
            return "incomplete", None
        case _:
            return "completed", None


def render_output(choice: Choice, custom_tool_names: frozenset[str], status: Status) -> list[dict[str, Any]]:
    """Texts that stand together are one message's content; the answer's token probabilities stand at its first text."""
    items: list[dict[str, Any]] = []
    logprobs = choice.logprobs
    for part in choice.parts:
        match part:
            case Text() | Refusal():
                if not items or items[-1].get("type") != "message":
                    items.append(render_message(new_id("msg"), [], status))
                items[-1]["content"].append(render_content(part, logprobs))
                logprobs = ()
            case ToolCall():
                items += render_signed_call(part, custom_tool_names)
            case _:
                items += render_other_items(part)
    return items


def render_message(item_id: str, content: list[dict[str, Any]], status: Status) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "content": content, "role": "assistant"}


def render_content(part: Text | Refusal, logprobs: tuple[Any, ...]) -> dict[str, Any]:
    match part:
        case Text():
            return render_output_text(part.text, part.citations, logprobs)
        case Refusal():
            return {"type": "refusal", "refusal": part.text}


def render_signed_call(call: ToolCall, custom_tool_names: frozenset[str]) -> list[dict[str, Any]]:
    items = [render_call_item(call, custom_tool_names)]
    if sealed := add_origin(call.origin, call.signature):
        items.insert(0, {"id": new_id("rs"), **render_reasoning_item("", sealed)})
    return items


def render_call_item(
    call: ToolCall, custom_tool_names: frozenset[str], status: Status = "completed"
) -> dict[str, Any]:
    free = call.custom or call.name in custom_tool_names
    return {"id": new_id("ctc" if free else "fc"), "status": status, **render_tool_call(call, free)}


def render_other_items(part: Part) -> list[dict[str, Any]]:
    """What else an answer may hold; what another format's provider did with its own tools has no place here."""
    match part:
        case Thinking():
            sealed = add_origin(part.origin, part.signature, part.redacted)
            return (
                [{"id": new_id("rs"), **render_reasoning_item(part.text, sealed)}]
                if part.text or sealed
                else []
            )
        case Image(data=str() as data):
            return [
                {"id": new_id("ig"), "type": "image_generation_call", "status": "completed", "result": data}
            ]
        case Opaque(origin="openai_responses", value=dict() as value):
            return [value]
        case _:
            return []


def render_usage(usage: Usage | None) -> dict[str, Any] | None:
    if usage is None:
        return None
    written = usage.cache_write_5m + usage.cache_write_1h
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.output,
    }


def render_error_fields(error: ApiError, request_id: str) -> dict[str, Any]:
    """`type` is the kind that operators filter by, `code` the vendor's word."""
    return {
        "message": error.message,
        "type": error.kind,
        "param": error.param,
        "code": error.code,
        "request_id": request_id,
    }


def render_error(api_error: ApiError, request_id: str) -> bytes:
    """OpenAI's error body, with the request's id."""
    return encode({"error": render_error_fields(api_error, request_id)})


def render_error_event(api_error: ApiError, request_id: str) -> bytes:
    """The same as an event of a stream that has begun."""
    return (
        b"event: error\ndata: "
        + encode(render_error_data(api_error, request_id, MAX_SEQUENCE_NUMBER))
        + b"\n\n"
    )


def render_error_data(api_error: ApiError, request_id: str, sequence_number: int) -> dict[str, Any]:
    """The document has the fields in the event itself (docs/api-reference/responses-streaming/error); OpenAI sends them in `error`,
    which is where its clients look. Both are here.
    """
    error = render_error_fields(api_error, request_id)
    flat = {"code": api_error.code, "message": api_error.message, "param": api_error.param}
    return {"type": "error", "sequence_number": sequence_number, **flat, "error": error}

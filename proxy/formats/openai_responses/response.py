"""A provider's whole answer in this format, the same for a client, and errors."""

import re
import time
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from proxy.formats.body import encode, mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.neutral import (
    BadAnswer,
    Choice,
    Failure,
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
    Usage,
)
from proxy.formats.openai_responses.items import (
    NAME,
    PARAGRAPH,
    call_item,
    is_base64,
    new_id,
    objects,
    output_text,
    parse_call,
    parse_content,
    parse_reasoning,
    reasoning_item,
    seal,
    text_of,
)
from proxy.formats.openai_responses.request import render_format
from proxy.formats.openai_responses.server_tools import with_services
from proxy.formats.openai_responses.tools import custom_names, render_choice, render_tool
from proxy.formats.provider_errors import message_of
from proxy.formats.tokens import detail_in, input_and_output

MAX_TOKENS = 2**31 - 1
LAST = 2**31 - 1
"""An error that is added to a stream comes after everything in it, whatever number that had."""
TITLE = re.compile(r"<title>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
MESSAGE_LIMIT = 1000
STATUS_OF_CODE = {
    "insufficient_quota": 429,
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
    "model_not_found": 404,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
    "invalid_request_error": 400,
}
CODE_OF_KIND = {
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
        answer = msgspec.json.decode(mended(body), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadAnswer("The provider's answer is not a JSON object.") from None
    if answer.get("error") or answer.get("status") == "failed":
        raise BadAnswer(failure_of(answer).message)
    if not isinstance(answer.get("output"), list):
        raise BadAnswer("The provider's answer has no output.")
    items = objects(answer["output"])
    seen: set[str] = set()
    parts = tuple(with_id(part, seen) for item in items for part in output_parts(item))
    return Response(
        id=text_of(answer.get("id")),
        model=text_of(answer.get("model")),
        choices=(Choice(parts=parts, finish=finish_of(answer, called(parts)), logprobs=logprobs_of(items)),),
        usage=usage_of(answer),
        created=int(created) if isinstance(created := answer.get("created_at"), int | float) else None,
    )


def output_parts(item: dict[str, Any]) -> tuple[Part, ...]:
    """What an item of the output gives the client. What a tool of the provider did is no call to the client's tools."""
    match item.get("type"):
        case "message":
            return tuple(part for part in parse_content(item.get("content")) if not isinstance(part, Text | Refusal) or part.text)
        case "function_call" | "custom_tool_call":
            return (parse_call(item),)
        case "reasoning":
            thinking = parse_reasoning(item)
            return (thinking,) if thinking.text or thinking.signature or thinking.redacted else ()
        case "image_generation_call" if is_base64(text_of(item.get("result"))):
            return (Image(mime=f"image/{text_of(item.get('output_format')) or 'png'}", data=item["result"]),)
        case kind:
            return (Opaque(origin=NAME, what=text_of(kind) or "item", value=item),)


def with_id(part: Part, seen: set[str]) -> Part:
    return replace(part, id=fresh_call_id(part.id, seen)) if isinstance(part, ToolCall) else part


def called(parts: tuple[Part, ...]) -> bool:
    return any(isinstance(part, ToolCall) for part in parts)


def logprobs_of(items: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(entry for item in items for part in objects(item.get("content")) for entry in objects(part.get("logprobs")))


def finish_of(answer: dict[str, Any], called: bool) -> FinishReason:
    details = answer.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    match answer.get("status"), reason:
        case "completed" | None, _:
            return "tool_calls" if called else "stop"
        case _, "max_output_tokens":
            return "length"
        case _, "content_filter":
            return "content_filter"
        case _:
            return "other"


def usage_of(answer: dict[str, Any]) -> Usage | None:
    try:
        usage = neutral_usage(msgspec.convert(answer.get("usage"), WireUsage))
    except msgspec.ValidationError:
        return None
    return usage and with_services(usage, answer.get("service_tier"), answer.get("output"), answer.get("tools"), answer.get("tool_usage"))


def neutral_usage(wire: WireUsage) -> Usage | None:
    """Disjoint buckets: OpenAI counts what it read from and wrote to its cache inside the input. None for counts that are
    absent, mistyped or absurd."""
    counts = input_and_output(wire.input_tokens, wire.output_tokens, wire.total_tokens)
    if counts is None:
        return None
    (prompt, output), details = counts, wire.input_tokens_details
    cached, written = detail_in(details, "cached_tokens"), detail_in(details, "cache_write_tokens")
    reasoning = detail_in(wire.output_tokens_details, "reasoning_tokens")
    if not all(0 <= count <= MAX_TOKENS for count in (prompt, output, cached, written, reasoning)):
        return None
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    # Compatible servers that state more reasoning than output did not count it there.
    output += reasoning if reasoning > output else 0
    return Usage(input=prompt - cached - written, cache_read=cached, cache_write_5m=written, output=output, reasoning=reasoning)


def parse_error(status: int, body: bytes) -> Failure:
    """An error's body, whatever it is: OpenAI's, a flat one, a list of them, a page of HTML or nothing."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body.decode(errors="replace").strip()
        found = TITLE.search(text)
        value = {"message": found[1] if found else "" if text.startswith("<") else text}
    if isinstance(value, list):
        value = value[0] if value else {}
    return failure_of(value if isinstance(value, dict) else {"message": text_of(value)}, status)


def failure_of(answer: dict[str, Any], status: int | None = None) -> Failure:
    """The failure that an error's body, event or failed answer tells. `status` is what it came with, if it came with an error's."""
    error = answer.get("error")
    stated = error if isinstance(error, dict) else answer
    message = message_of(stated)
    code = text_of(stated.get("code")) or text_of(stated.get("type") if stated is error else None)
    if status is None or status < 400:
        status = STATUS_OF_CODE.get(code, 400 if code.startswith("invalid_") or "image" in code else 500)
    kind = kind_of(status, code)
    return Failure(
        kind=kind,
        code=code or CODE_OF_KIND[kind],
        message=message[:MESSAGE_LIMIT] or f"The provider answered with status {status}.",
        param=text_of(stated.get("param")) or None,
        status=status,
    )


def kind_of(status: int, code: str) -> str:
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
    status, details = status_of(choice.finish)
    answer = frame(request, response.model, response.created) | {
        "status": status,
        "incomplete_details": details,
        "output": output_items(choice, custom_names(request), status),
        "usage": render_usage(response.usage),
    }
    return encode(answer)


def frame(request: Request, model: str, created: int | None) -> dict[str, Any]:
    """An answer as it begins: it repeats the request's settings, and states the vendor's defaults for the others."""
    extras, reasoning = request.extras, request.reasoning
    wanted = render_format(request.response_format) if request.response_format else {"format": {"type": "text"}}
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": created or int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": PARAGRAPH.join(text.text for text in request.system) or None,
        "max_output_tokens": request.max_tokens,
        "max_tool_calls": extras.get("max_tool_calls"),
        "model": model or request.model,
        "output": [],
        "parallel_tool_calls": request.parallel_tool_calls is not False,
        "previous_response_id": None,
        "prompt_cache_key": extras.get("prompt_cache_key"),
        "reasoning": {"effort": reasoning and reasoning.effort, "summary": "auto" if reasoning and reasoning.visible else None},
        "safety_identifier": extras.get("safety_identifier"),
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {**wanted, "verbosity": extras.get("text.verbosity", "medium")},
        "tool_choice": render_choice(request.tool_choice, custom_names(request)) if request.tool_choice else "auto",
        "tools": [render_tool(tool) for tool in request.tools],
        "top_logprobs": request.logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": extras.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
        "metadata": extras.get("metadata", {}),
    }


def status_of(finish: FinishReason) -> tuple[Status, dict[str, str] | None]:
    match finish:
        case "length":
            return "incomplete", {"reason": "max_output_tokens"}
        case "content_filter":
            return "incomplete", {"reason": "content_filter"}
        case "other":
            return "incomplete", None
        case _:
            return "completed", None


def output_items(choice: Choice, custom: frozenset[str], status: Status) -> list[dict[str, Any]]:
    """Texts that stand together are one message's content; the answer's token probabilities stand at its first text."""
    items: list[dict[str, Any]] = []
    logprobs = choice.logprobs
    for part in choice.parts:
        match part:
            case Text() | Refusal():
                if not items or items[-1].get("type") != "message":
                    items.append(message_item(new_id("msg"), [], status))
                items[-1]["content"].append(content_of(part, logprobs))
                logprobs = ()
            case ToolCall():
                items += signed_call(part, custom)
            case _:
                items += other_items(part)
    return items


def message_item(item_id: str, content: list[dict[str, Any]], status: Status) -> dict[str, Any]:
    return {"id": item_id, "type": "message", "status": status, "content": content, "role": "assistant"}


def content_of(part: Text | Refusal, logprobs: tuple[Any, ...]) -> dict[str, Any]:
    match part:
        case Text():
            return output_text(part.text, part.citations, logprobs)
        case Refusal():
            return {"type": "refusal", "refusal": part.text}


def signed_call(call: ToolCall, custom: frozenset[str]) -> list[dict[str, Any]]:
    items = [answer_item(call, custom)]
    if sealed := seal(call.origin, call.signature):
        items.insert(0, {"id": new_id("rs"), **reasoning_item("", sealed)})
    return items


def answer_item(call: ToolCall, custom: frozenset[str], status: Status = "completed") -> dict[str, Any]:
    free = call.custom or call.name in custom
    return {"id": new_id("ctc" if free else "fc"), "status": status, **call_item(call, free)}


def other_items(part: Part) -> list[dict[str, Any]]:
    """What else an answer may hold; what another format's provider did with its own tools has no place here."""
    match part:
        case Thinking():
            sealed = seal(part.origin, part.signature, part.redacted)
            return [{"id": new_id("rs"), **reasoning_item(part.text, sealed)}] if part.text or sealed else []
        case Image(data=str() as data):
            return [{"id": new_id("ig"), "type": "image_generation_call", "status": "completed", "result": data}]
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


def error_fields(failure: Failure, request_id: str) -> dict[str, Any]:
    """`type` is the kind that operators filter by, `code` the vendor's word."""
    return {"message": failure.message, "type": failure.kind, "param": failure.param, "code": failure.code, "request_id": request_id}


def render_error(failure: Failure, request_id: str) -> bytes:
    """OpenAI's error body, with the request's id."""
    return encode({"error": error_fields(failure, request_id)})


def error_event(failure: Failure, request_id: str) -> bytes:
    """The same as an event of a stream that has begun."""
    return b"event: error\ndata: " + encode(error_data(failure, request_id, LAST)) + b"\n\n"


def error_data(failure: Failure, request_id: str, number: int) -> dict[str, Any]:
    """The document has the fields in the event itself (docs/api-reference/responses-streaming/error); OpenAI sends them in `error`,
    which is where its clients look. Both are here."""
    error = error_fields(failure, request_id)
    flat = {"code": failure.code, "message": failure.message, "param": failure.param}
    return {"type": "error", "sequence_number": number, **flat, "error": error}

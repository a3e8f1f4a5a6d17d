"""Answers and errors of OpenAI Chat Completions (platform.openai.com/docs/api-reference/chat/object)."""

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import msgspec

from proxy.formats.body import encode, mended
from proxy.formats.call_ids import fresh_call_id
from proxy.formats.custom_tools import call_as_function
from proxy.formats.neutral import (
    BadAnswer,
    Choice,
    Citation,
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
    Tool,
    ToolCall,
)
from proxy.formats.openai_chat.message import (
    call_of,
    content_of,
    images_of,
    items_of,
    joined,
    object_of,
    text_of,
    wire_call,
    wire_image,
)
from proxy.formats.openai_chat.signatures import OWN, listed, thoughts_of, wire_thoughts
from proxy.formats.openai_chat.usage import read_usage, wire_usage
from proxy.formats.provider_errors import message_of

FINISHES: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",  # Together
    "eos_token": "stop",  # Hugging Face's TGI
    "end_turn": "stop",  # Bedrock and others, after Anthropic
    "complete": "stop",  # Cohere
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",  # Mistral
    "model_context_window_exceeded": "length",  # Z.AI
    "tool_calls": "tool_calls",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Z.AI
    "safety": "content_filter",
}
FILTERED = "content_filter:"
"""Google's OpenAI-compatible server says after it what its filter was."""
WIRE_FINISHES: dict[FinishReason, str] = {"length": "length", "tool_calls": "tool_calls", "content_filter": "content_filter"}
SPOKEN = "an answer in sound"
LONGEST_MESSAGE = 2000

KINDS = {400: "invalid_request", 401: "auth", 403: "auth", 404: "invalid_request", 408: "timeout", 429: "rate_limit", 504: "timeout"}
CODES = {
    401: "invalid_api_key",
    403: "insufficient_permissions",
    404: "not_found",
    408: "request_timeout",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    500: "server_error",
    503: "service_unavailable",
    504: "upstream_timeout",
    529: "service_unavailable",
}

decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def decode_answer(data: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    return decode_object(mended(data))


# Reading ------------------------------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Raises BadAnswer."""
    try:
        answer = decode_answer(body)
    except (ValueError, RecursionError):
        raise BadAnswer("The provider's answer is not the JSON object that its API promises.") from None
    if failure := failure_in(answer):
        raise BadAnswer(failure.message)
    choices = listed(answer.get("choices"))
    if not choices:
        raise BadAnswer("The provider's answer holds no choices.")
    created, sources = answer.get("created"), sources_of(answer)
    return Response(
        id=text_of(answer.get("id")),
        model=text_of(answer.get("model")),
        choices=tuple(with_sources(read_choice(choice), sources) for choice in choices),
        usage=read_usage(answer.get("usage"), answer.get("service_tier")),
        created=created if isinstance(created, int) else None,
    )


def read_choice(wire: dict[str, Any]) -> Choice:
    """Azure leaves the message out where its filter stopped the answer."""
    message = object_of(wire.get("message") or wire.get("delta"))
    parts = tuple(answer_parts(message))
    called = any(isinstance(part, ToolCall) for part in parts)
    return Choice(parts=parts, finish=finish_of(wire, called=called), stop_sequence=stop_sequence_of(wire), logprobs=logprobs_of(wire))


def with_sources(choice: Choice, sources: list[Citation]) -> Choice:
    """What an answer as a whole comes from stands at its last text, unless texts in it name their own."""
    texts = [part for part in choice.parts if isinstance(part, Text)]
    if not sources or not texts or any(text.citations for text in texts):
        return choice
    cited = msgspec.structs.replace(texts[-1], citations=tuple(sources))
    return msgspec.structs.replace(choice, parts=tuple(cited if part is texts[-1] else part for part in choice.parts))


def sources_of(answer: dict[str, Any]) -> list[Citation]:
    """Pages beside an answer: with titles in Perplexity's `search_results` (docs.perplexity.ai/api-reference), else bare addresses,
    as xAI's (docs.x.ai/docs/guides/live-search) and Perplexity's older field have them."""
    pages = [citation for result in listed(answer.get("search_results")) if (citation := citation_of(result))]
    return pages or [Citation(url=url) for url in items_of(answer.get("citations")) if isinstance(url, str) and url]


def answer_parts(message: dict[str, Any]) -> list[Part]:
    citations = tuple(citations_of(message))
    words = [part for part in content_of(message.get("content")) if not isinstance(part, Text) or part.text]
    parts: list[Part] = [*thoughts_of(message), *words]
    if citations and parts and isinstance(last := parts[-1], Text):
        parts[-1] = msgspec.structs.replace(last, citations=citations)
    if refusal := text_of(message.get("refusal")):
        parts.append(Refusal(text=refusal))
    parts += images_of(message)
    if audio := object_of(message.get("audio")):
        parts.append(Opaque(origin=OWN, what=SPOKEN, value=audio))
    return parts + calls_of(message)


def citations_of(message: dict[str, Any]) -> list[Citation]:
    return [citation for annotation in listed(message.get("annotations")) if (citation := citation_of(annotation))]


def citation_of(annotation: dict[str, Any]) -> Citation | None:
    """`content` is what routers quote of a page (openrouter.ai/docs/features/web-search)."""
    source = object_of(annotation.get("url_citation")) or annotation
    if not (url := text_of(source.get("url"))):
        return None
    start, end = (place if isinstance(place := source.get(name), int) else None for name in ("start_index", "end_index"))
    return Citation(url=url, title=text_of(source.get("title")), quote=text_of(source.get("content")), start=start, end=end)


def calls_of(message: dict[str, Any]) -> list[Part]:
    calls = listed(message.get("tool_calls"))
    if not calls and object_of(function := message.get("function_call")).get("name"):
        calls = [{"function": function}]
    seen: set[str] = set()
    return [call_of(call, fresh_call_id(text_of(call.get("id")), seen)) for call in calls]


def finish_of(wire: dict[str, Any], *, called: bool) -> FinishReason:
    """A model that was forced to call a tool ends with `stop`; `finish_details` is the form of the first vision models."""
    reason = text_of(wire.get("finish_reason")) or text_of(object_of(wire.get("finish_details")).get("type")) or "stop"
    reason = reason.lower()
    finish = "content_filter" if reason.startswith(FILTERED) else FINISHES.get(reason, "other")
    return "tool_calls" if called and finish == "stop" else finish


def stop_sequence_of(wire: dict[str, Any]) -> str | None:
    """vLLM says which one (docs.vllm.ai, "OpenAI-Compatible Server")."""
    return text_of(wire.get("stop_reason")) or None if wire.get("finish_reason") == "stop" else None


def logprobs_of(wire: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(items_of(object_of(wire.get("logprobs")).get("content")))


# Writing ------------------------------------------------------------------------------------------------------------------


def render_response(response: Response, request: Request) -> bytes:
    custom = custom_tools(request)
    answer = {
        "id": answer_id(response.id),
        "object": "chat.completion",
        "created": int(time.time()) if response.created is None else response.created,
        "model": response.model or request.model,
        "choices": [wire_choice(index, choice, custom) for index, choice in enumerate(response.choices)],
        "system_fingerprint": None,
    }
    if response.usage is not None:
        answer["usage"] = wire_usage(response.usage)
    return encode(answer)


def answer_id(given: str) -> str:
    return given if given.startswith("chatcmpl-") else f"chatcmpl-{given or uuid4().hex}"


def custom_tools(request: Request) -> frozenset[str]:
    """Tools that the client declared as custom, whatever they had to become for the provider."""
    return frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)


def wire_choice(index: int, choice: Choice, custom: frozenset[str]) -> dict[str, Any]:
    logprobs = {"content": list(choice.logprobs), "refusal": None} if choice.logprobs else None
    message = wire_message(choice.parts, custom)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": wire_finish(choice.finish)}


def wire_finish(finish: FinishReason) -> str:
    return WIRE_FINISHES.get(finish, "stop")


def wire_message(parts: Iterable[Part], custom: frozenset[str]) -> dict[str, Any]:
    """What server-side tools of other providers did stays out: their calls are not the client's to answer."""
    parts = list(parts)
    calls = [wire_call(as_declared(part, custom)) for part in parts if isinstance(part, ToolCall)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    text = joined(parts)
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else ""), "refusal": refusal or None}
    message |= wire_thoughts([part for part in parts if isinstance(part, Thinking)])
    if annotations := wire_annotations(parts):
        message["annotations"] = annotations
    if images := [wire_image_part(part) for part in parts if isinstance(part, Image)]:
        message["images"] = images
    for part in parts:
        if isinstance(part, Opaque) and part.origin == OWN and part.what == SPOKEN:
            message |= {"audio": part.value, "content": text or None}
    return message | ({"tool_calls": calls} if calls else {})


def wire_image_part(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": wire_image(image)}


def as_declared(call: ToolCall, custom: frozenset[str]) -> ToolCall:
    """A custom tool that the provider knows as a function with one text gets that text back; and a call with free text becomes such
    a function where the client declared no custom tool."""
    if call.name not in custom:
        return call_as_function(call)
    return call if call.custom else msgspec.structs.replace(call, custom=True, arguments=free_text(call.arguments))


def free_text(arguments: str) -> str:
    try:
        fields = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        return arguments
    match fields:
        case dict() if len(fields) == 1 and isinstance(text := next(iter(fields.values())), str):
            return text
        case _:
            return arguments


def wire_annotations(parts: Iterable[Part]) -> list[dict[str, Any]]:
    annotations, before = [], 0
    for part in parts:
        if isinstance(part, Text):
            annotations += [wire_annotation(citation, before, len(part.text)) for citation in part.citations]
            before += len(part.text)
    return annotations


def wire_annotation(citation: Citation, before: int, length: int) -> dict[str, Any]:
    """`before`: characters of the message that come before the part, which has `length` of them."""
    start, end = citation.span(length)
    place = {"start_index": before + start, "end_index": before + end}
    return {"type": "url_citation", "url_citation": {**place, "url": citation.url, "title": citation.title or citation.url}}


# Errors -------------------------------------------------------------------------------------------------------------------


def parse_error(status: int, body: bytes) -> Failure:
    """A provider's refusal, in whatever shape it came: OpenAI's, a flat one, a gateway's web page, nothing."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return failure_of(readable_text(body), status)
    if isinstance(answer, list) and answer:
        answer = answer[0]
    fields = object_of(answer)
    return failure_of(next((fields[name] for name in ("error", "errors", "detail") if fields.get(name)), answer), status)


def failure_in(answer: dict[str, Any]) -> Failure | None:
    """The failure that a body or an event of a stream holds in spite of its status 200."""
    if error := answer.get("error"):
        return failure_of(error, status_in(error))
    if answer.get("object") == "error" or ("message" in answer and "choices" not in answer):
        return failure_of(answer, status_in(answer))
    for choice in listed(answer.get("choices")):
        if error := choice.get("error"):
            return failure_of(error, status_in(error))
    return None


def failure_of(error: Any, status: int) -> Failure:
    fields = object_of(error)
    message = message_of(error) or f"The provider answered with the status {status}."
    code = text_of(fields.get("code"))
    code = code if code and not code.isdigit() else ""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request")
    if status == 404 and (code == "model_not_found" or (not code and "model" in message.lower())):
        kind, code = "unknown_model", "model_not_found"
    param = text_of(fields.get("param")) or None
    return Failure(kind=kind, code=code or code_of(status), message=message[:LONGEST_MESSAGE], param=param, status=status)


def code_of(status: int) -> str:
    return CODES.get(status, "server_error" if status >= 500 else "invalid_request_error")


def status_in(error: Any) -> int:
    """OpenRouter and Groq say inside the error which status it would have had."""
    fields = object_of(error)
    stated = [fields.get(name) for name in ("status", "status_code", "code")]
    return next((status for status in stated if isinstance(status, int) and 400 <= status <= 599), 502)


def readable_text(body: bytes) -> str:
    """A plain text as it is; a web page says nothing that a client could use."""
    text = body.decode(errors="replace").strip()
    return "" if text.startswith("<") else text


def render_error(failure: Failure, request_id: str) -> bytes:
    """OpenAI's error body, with the request's id; `type` is the kind that operators filter by."""
    error = {"message": failure.message, "type": failure.kind, "param": failure.param, "code": failure.code, "request_id": request_id}
    return encode({"error": error})


def error_event(failure: Failure, request_id: str) -> bytes:
    """The same as an event of a stream that has begun. No [DONE] follows: the answer is not complete."""
    return b"data: " + render_error(failure, request_id) + b"\n\n"

"""Parse and render non-streaming responses (platform.openai.com/docs/api-reference/chat/object)."""

import time
from collections.abc import Iterable
from typing import Any
from uuid import uuid4

import msgspec

from proxy.formats.json_body import as_dict, as_list, as_str, dict_items, encode
from proxy.formats.neutral import (
    Choice,
    Citation,
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
    Tool,
    ToolCall,
)
from proxy.formats.openai_chat.content import (
    join_text,
    parse_content,
    parse_images,
    parse_tool_call,
    render_image,
    render_tool_call,
)
from proxy.formats.openai_chat.errors import find_error
from proxy.formats.openai_chat.reasoning import (
    parse_message_thinking,
    render_call_signature,
    render_message_thinking,
)
from proxy.formats.openai_chat.usage import parse_usage, render_usage
from proxy.formats.openai_chat.wire import FORMAT, decode_response
from proxy.formats.tool_calls import as_function_call, unique_call_id, unwrap_free_text

FINISH_REASONS: dict[str, FinishReason] = {
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
CONTENT_FILTER_PREFIX = "content_filter:"
"""Google's OpenAI-compatible server appends the name of its content filter to this prefix."""
WIRE_FINISH_REASONS: dict[FinishReason, str] = {
    "length": "length",
    "pause": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}
AUDIO_KIND = "an audio response"


# Reading ------------------------------------------------------------------------------------------


def parse_response(body: bytes) -> Response:
    """Return the neutral response. Raises InvalidUpstreamResponse."""
    try:
        wire = decode_response(body)
    except (ValueError, RecursionError):
        raise InvalidUpstreamResponse("The provider's response is not a JSON object.") from None
    if failure := find_error(wire):
        raise InvalidUpstreamResponse(failure.message)
    choices = dict_items(wire.get("choices"))
    if not choices:
        raise InvalidUpstreamResponse("The provider's response holds no choices.")
    created, sources = wire.get("created"), parse_response_citations(wire)
    return Response(
        id=as_str(wire.get("id")),
        model=as_str(wire.get("model")),
        choices=tuple(with_response_citations(parse_choice(choice), sources) for choice in choices),
        usage=parse_usage(wire),
        created=created if isinstance(created, int) else None,
    )


def parse_choice(wire: dict[str, Any]) -> Choice:
    """Return one choice. Azure sends no message if its filter stopped the response."""
    message = as_dict(wire.get("message") or wire.get("delta"))
    parts = tuple(parse_parts(message))
    called = any(isinstance(part, ToolCall) for part in parts)
    return Choice(
        parts=parts,
        finish_reason=parse_finish_reason(wire, has_calls=called),
        stop_sequence=parse_stop_sequence(wire),
        logprobs=parse_logprobs(wire),
    )


def with_response_citations(choice: Choice, citations: list[Citation]) -> Choice:
    """Add the citations of the whole response to its last text, unless its texts have citations."""
    texts = [part for part in choice.parts if isinstance(part, Text)]
    if not citations or not texts or any(text.citations for text in texts):
        return choice
    cited = msgspec.structs.replace(texts[-1], citations=tuple(citations))
    return msgspec.structs.replace(
        choice, parts=tuple(cited if part is texts[-1] else part for part in choice.parts)
    )


def parse_response_citations(wire: dict[str, Any]) -> list[Citation]:
    """Return the sources that the response lists outside of its choices.

    Perplexity's `search_results` have titles (docs.perplexity.ai/api-reference). xAI's field
    (docs.x.ai/docs/guides/live-search) and Perplexity's older field are lists of URLs.
    """
    pages = [
        citation for result in dict_items(wire.get("search_results")) if (citation := parse_citation(result))
    ]
    return pages or [
        Citation(url=url) for url in as_list(wire.get("citations")) if isinstance(url, str) and url
    ]


def parse_parts(message: dict[str, Any]) -> list[Part]:
    citations = tuple(parse_citations(message))
    content = [
        part for part in parse_content(message.get("content")) if not isinstance(part, Text) or part.text
    ]
    parts: list[Part] = [*parse_message_thinking(message), *content]
    if citations and parts and isinstance(last := parts[-1], Text):
        parts[-1] = msgspec.structs.replace(last, citations=citations)
    if refusal := as_str(message.get("refusal")):
        parts.append(Refusal(text=refusal))
    parts += parse_images(message)
    if audio := as_dict(message.get("audio")):
        parts.append(Opaque(origin=FORMAT, kind=AUDIO_KIND, value=audio))
    return parts + parse_tool_calls(message)


def parse_citations(message: dict[str, Any]) -> list[Citation]:
    return [
        citation
        for annotation in dict_items(message.get("annotations"))
        if (citation := parse_citation(annotation))
    ]


def parse_citation(annotation: dict[str, Any]) -> Citation | None:
    """Return one citation, or None. `content` is a quote that routers add.

    Source: openrouter.ai/docs/features/web-search.
    """
    source = as_dict(annotation.get("url_citation")) or annotation
    if not (url := as_str(source.get("url"))):
        return None
    start, end = (
        place if isinstance(place := source.get(name), int) else None for name in ("start_index", "end_index")
    )
    return Citation(
        url=url, title=as_str(source.get("title")), quote=as_str(source.get("content")), start=start, end=end
    )


def parse_tool_calls(message: dict[str, Any]) -> list[Part]:
    calls = dict_items(message.get("tool_calls"))
    if not calls and as_dict(function := message.get("function_call")).get("name"):
        calls = [{"function": function}]
    seen: set[str] = set()
    return [parse_tool_call(call, unique_call_id(as_str(call.get("id")), seen)) for call in calls]


def parse_finish_reason(wire: dict[str, Any], *, has_calls: bool) -> FinishReason:
    """Return the finish reason. Servers send `stop` if the model was forced to call a tool.

    `finish_details` is the field of the first vision models.
    """
    reason = (
        as_str(wire.get("finish_reason")) or as_str(as_dict(wire.get("finish_details")).get("type")) or "stop"
    )
    reason = reason.lower()
    finish = (
        "content_filter" if reason.startswith(CONTENT_FILTER_PREFIX) else FINISH_REASONS.get(reason, "other")
    )
    return "tool_calls" if has_calls and finish == "stop" else finish


def parse_stop_sequence(wire: dict[str, Any]) -> str | None:
    """Return the stop sequence that ended the response, which vLLM reports, or None."""
    return as_str(wire.get("stop_reason")) or None if wire.get("finish_reason") == "stop" else None


def parse_logprobs(wire: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(as_list(as_dict(wire.get("logprobs")).get("content")))


# Writing ------------------------------------------------------------------------------------------


def render_response(response: Response, request: Request) -> bytes:
    custom = custom_tool_names(request)
    wire = {
        "id": render_id(response.id),
        "object": "chat.completion",
        "created": int(time.time()) if response.created is None else response.created,
        "model": response.model or request.model,
        "choices": [render_choice(index, choice, custom) for index, choice in enumerate(response.choices)],
        "system_fingerprint": None,
    }
    if response.usage is not None:
        wire["usage"] = render_usage(response.usage)
    return encode(wire)


def render_id(upstream_id: str) -> str:
    return upstream_id if upstream_id.startswith("chatcmpl-") else f"chatcmpl-{upstream_id or uuid4().hex}"


def custom_tool_names(request: Request) -> frozenset[str]:
    """Return the names of the tools that the client declared as custom, even if they were converted."""
    return frozenset(tool.name for tool in request.tools if isinstance(tool, Tool) and tool.custom)


def render_choice(index: int, choice: Choice, custom: frozenset[str]) -> dict[str, Any]:
    logprobs = {"content": list(choice.logprobs), "refusal": None} if choice.logprobs else None
    message = render_message(choice.parts, custom)
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": render_finish_reason(choice.finish_reason),
    }


def render_finish_reason(finish_reason: FinishReason) -> str:
    return WIRE_FINISH_REASONS.get(finish_reason, "stop")


def render_message(parts: Iterable[Part], custom: frozenset[str]) -> dict[str, Any]:
    """Render the message of a choice.

    Calls of server tools are left out, because the client must not send results for them.
    """
    parts = list(parts)
    calls = [render_call(part, custom) for part in parts if isinstance(part, ToolCall)]
    refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
    text = join_text(parts)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal else ""),
        "refusal": refusal or None,
    }
    message |= render_message_thinking([part for part in parts if isinstance(part, Thinking)])
    if annotations := render_annotations(parts):
        message["annotations"] = annotations
    if images := [render_image_part(part) for part in parts if isinstance(part, Image)]:
        message["images"] = images
    for part in parts:
        if isinstance(part, Opaque) and part.origin == FORMAT and part.kind == AUDIO_KIND:
            message |= {"audio": part.value, "content": text or None}
    return message | ({"tool_calls": calls} if calls else {})


def render_call(call: ToolCall, custom: frozenset[str]) -> dict[str, Any]:
    signed = {"extra_content": render_call_signature(call.origin, call.signature)} if call.signature else {}
    return render_tool_call(as_declared_tool(call, custom)) | signed


def render_image_part(image: Image) -> dict[str, Any]:
    return {"type": "image_url", "image_url": render_image(image)}


def as_declared_tool(call: ToolCall, custom: frozenset[str]) -> ToolCall:
    """Return a call in the form in which the client declared its tool: custom or a function.

    If a custom tool was sent to the provider as a function, its arguments are unwrapped to free text.
    """
    if call.name not in custom:
        return as_function_call(call)
    return (
        call
        if call.custom
        else msgspec.structs.replace(
            call, custom=True, arguments=unwrap_free_text(call.arguments, any_key=True)
        )
    )


def render_annotations(parts: Iterable[Part]) -> list[dict[str, Any]]:
    annotations, before = [], 0
    for part in parts:
        if isinstance(part, Text):
            annotations += [
                render_annotation(citation, before, len(part.text)) for citation in part.citations
            ]
            before += len(part.text)
    return annotations


def render_annotation(citation: Citation, offset: int, length: int) -> dict[str, Any]:
    """Render a citation.

    `offset` is the number of characters before the part, `length` that of the part.
    """
    start, end = citation.span(length)
    place = {"start_index": offset + start, "end_index": offset + end}
    return {
        "type": "url_citation",
        "url_citation": {**place, "url": citation.url, "title": citation.title or citation.url},
    }

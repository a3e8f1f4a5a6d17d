"""A client's request in this format, and a request to a provider that speaks it."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from proxy.formats.codec import Quirks, RenderedRequest, adapt_to_quirks, has_cache_control
from proxy.formats.json_body import decode_body, encode
from proxy.formats.neutral import (
    File,
    InvalidRequest,
    Opaque,
    Reasoning,
    Request,
    ResponseFormat,
    UnsupportedFeature,
)
from proxy.formats.openai_responses.content import PARAGRAPH_BREAK, as_str, dict_items
from proxy.formats.openai_responses.messages import MessageBuilder, render_message
from proxy.formats.openai_responses.tools import apply_tool_choice, parse_tool, render_tools

MAX_TOKENS = 2**31 - 1
INCLUDE_LOGPROBS = "message.output_text.logprobs"
INCLUDE_ENCRYPTED_REASONING = "reasoning.encrypted_content"
STATEFUL_FIELDS = ("previous_response_id", "conversation", "prompt", "background")
STATEFUL_ITEM_TYPES = ("item_reference", "compaction")
RESPONSES_ONLY_SETTINGS = (*STATEFUL_FIELDS, "include", "truncation", "max_tool_calls")
"""Settings that no other format has a name for, so that whoever gives them means this format's."""
UNMAPPED_TOOL_FIELDS = ("allowed_callers", "async", "defer_loading", "output_schema")
DEFAULT_VALUES: dict[str, Any] = {
    "store": False,
    "background": False,
    "truncation": "disabled",
    "service_tier": "auto",
    "metadata": {},
    "include": [],
}
"""Settings that ask for what is so anyway: nothing is lost where they are not passed on."""
UNSUPPORTED = frozenset({"top_k", "stop", "seed", "presence_penalty", "frequency_penalty"})
JSON_INSTRUCTION = {"type": "message", "role": "system", "content": "Answer in JSON."}
LOW_BUDGET, MEDIUM_BUDGET = 1024, 8192


class WireRequest(msgspec.Struct):
    model: str = ""
    input: str | list[dict[str, Any] | str] | None = None
    instructions: str | list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] | None = None
    temperature: float | None = None
    top_p: float | None = None
    parallel_tool_calls: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    include: list[str] | None = None
    user: str | None = None
    stream: bool | None = None
    stream_options: Any = None


class WireFormat(msgspec.Struct):
    type: str
    name: str = "answer"
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


# From the client ----------------------------------------------------------------------------------------------------------


def parse_request(body: bytes, model: str = "", stream: bool = False) -> Request:
    """Raises BadRequest."""
    raw: dict[str, Any] = {}

    def read(text: bytes) -> WireRequest:
        raw.update(msgspec.json.decode(text, type=dict[str, Any]))
        return msgspec.convert(raw, WireRequest)

    wire = decode_body(read, body)
    transcript = MessageBuilder(wire.instructions)
    for at, item in enumerate([wire.input] if isinstance(wire.input, str) else wire.input or []):
        transcript.add_item(
            {"role": "user", "content": item} if isinstance(item, str) else item, f"input[{at}]"
        )
    tools, choice = apply_tool_choice(
        tuple(parse_tool(tool, f"tools[{at}]") for at, tool in enumerate(wire.tools or [])), wire.tool_choice
    )
    return Request(
        model=wire.model or model,
        messages=transcript.build(),
        system=tuple(transcript.system),
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=wire.parallel_tool_calls,
        max_tokens=wire.max_output_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        response_format=parse_response_format(wire.text or {}),
        reasoning=parse_reasoning(wire.reasoning or {}),
        logprobs=(wire.top_logprobs or 0) if INCLUDE_LOGPROBS in (wire.include or ()) else None,
        user=wire.user,
        stream=bool(wire.stream),
        unmapped_settings=parse_unmapped_settings(raw, wire),
    )


def stateful_fields(request: Request) -> list[str]:
    """What of a request only the provider that keeps the conversation can answer."""
    items = {part.kind for message in request.messages for part in message.parts if isinstance(part, Opaque)}
    return [name for name in STATEFUL_FIELDS if name in request.unmapped_settings] + [
        name for name in STATEFUL_ITEM_TYPES if name in items
    ]


def parse_unmapped_settings(raw: dict[str, Any], wire: WireRequest) -> dict[str, Any]:
    known = set(WireRequest.__struct_fields__)
    rest = {name: value for name, value in raw.items() if name not in known}
    rest["include"] = [
        name for name in wire.include or () if name not in (INCLUDE_LOGPROBS, INCLUDE_ENCRYPTED_REASONING)
    ]
    rest["top_logprobs"] = None if INCLUDE_LOGPROBS in (wire.include or ()) else wire.top_logprobs
    rest |= {f"text.{name}": value for name, value in (wire.text or {}).items() if name != "format"}
    spoken = ("effort", "summary", "generate_summary")
    own = [tool for tool in dict_items(wire.tools) if tool.get("type") in ("function", "custom")]
    rest |= {
        f"tools.{name}": tool[name]
        for tool in own
        for name in UNMAPPED_TOOL_FIELDS
        if tool.get(name) not in (None, False, ["direct"])
    }
    rest["detail"] = True if any(map(has_detail, input_files(wire.input))) else None
    rest |= {
        f"reasoning.{name}": value for name, value in (wire.reasoning or {}).items() if name not in spoken
    }
    if isinstance(wire.tool_choice, dict) and wire.tool_choice.get("type") not in (
        "function",
        "custom",
        "allowed_tools",
    ):
        rest["tool_choice"] = wire.tool_choice
    return {
        name: value for name, value in rest.items() if value is not None and value != DEFAULT_VALUES.get(name)
    }


def input_files(items: Any) -> list[dict[str, Any]]:
    parts = [
        part
        for item in dict_items(items)
        for field in ("content", "output")
        for part in dict_items(item.get(field))
    ]
    return [part for part in parts if part.get("type") == "input_file"]


def has_detail(file: dict[str, Any]) -> bool:
    return file.get("detail") not in (None, "auto")


def parse_response_format(text: dict[str, Any]) -> ResponseFormat | None:
    if text.get("format") is None:
        return None
    try:
        wire = msgspec.convert(text["format"], WireFormat)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"text.format: {error}.", "text.format") from None
    match wire.type:
        case "json_schema":
            return ResponseFormat(
                schema=wire.schema or {}, name=wire.name, description=wire.description, strict=wire.strict
            )
        case "json_object":
            return ResponseFormat()
        case _:
            return None


def parse_reasoning(reasoning: dict[str, Any]) -> Reasoning | None:
    effort, summary = reasoning.get("effort"), reasoning.get("summary") or reasoning.get("generate_summary")
    if not effort and not summary:
        return None
    return Reasoning(effort=as_str(effort) or None, visible=True if summary else None)


# To the provider ----------------------------------------------------------------------------------------------------------


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Raises Inexpressible for content and tools that this format has no words for."""
    rejected = quirks.unsupported_for(request.model)
    request, dropped = without_settings(adapt_to_quirks(request, quirks), rejected | UNSUPPORTED)
    if request.n != 1:
        raise UnsupportedFeature("The Responses API gives one answer to a request.", "n")
    kept = {
        name: value for name, value in request.unmapped_settings.items() if name in RESPONSES_ONLY_SETTINGS
    }
    dropped += ["cache"] if has_cache_control(request) else []
    dropped += ["filename"] if has_named_file_urls(request) else []
    dropped += [name for name in request.unmapped_settings if name not in kept]
    body: dict[str, Any] = {"model": request.model, **render_conversation(request)}
    return RenderedRequest(
        body | render_tools(request) | render_settings(request) | render_reasoning(request, quirks) | kept,
        dropped,
    )


def has_named_file_urls(request: Request) -> bool:
    """OpenAI refuses a `filename` beside a `file_url`: they are "mutually exclusive"."""
    parts = [part for message in request.messages for part in message.parts]
    return any(isinstance(part, File) and part.name and part.url and part.data is None for part in parts)


def render_conversation(request: Request) -> dict[str, Any]:
    """In JSON mode OpenAI looks for the word in the input, and refuses the request where it is missing or only in `instructions`
    (docs/guides/structured-outputs, "JSON mode").
    """
    items = [item for message in request.messages for item in render_message(message)]
    system = PARAGRAPH_BREAK.join(text.text for text in request.system)
    if request.response_format != ResponseFormat():
        return {"instructions": system, "input": items} if system else {"input": items}
    if system:
        items.insert(0, {"type": "message", "role": "system", "content": system})
    return {"input": items if b"json" in encode(items).lower() else [*items, JSON_INSTRUCTION]}


def without_settings(request: Request, names: Iterable[str]) -> tuple[Request, list[str]]:
    """The request without these settings, and which of them it had."""
    given = {
        field.name: field.default
        for field in msgspec.structs.fields(Request)
        if field.name in names and not field.required and getattr(request, field.name) != field.default
    }
    return replace(request, **given), list(given)


def render_settings(request: Request) -> dict[str, Any]:
    """We keep nothing at the provider: the client has its history, and did not ask for more."""
    given = {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "user": request.user,
        "stream": request.stream or None,
        "top_logprobs": request.logprobs,
        "text": render_response_format(request.response_format) if request.response_format else None,
        "store": False if not stateful_fields(request) else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def render_response_format(response_format: ResponseFormat) -> dict[str, Any]:
    if response_format.schema is None:
        return {"format": {"type": "json_object"}}
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", response_format.name)[:64] or "answer"
    chosen = {"description": response_format.description, "strict": response_format.strict}
    given = {field: value for field, value in chosen.items() if value is not None}
    return {"format": {"type": "json_schema", "name": name, "schema": response_format.schema, **given}}


def render_reasoning(request: Request, quirks: Quirks) -> dict[str, Any]:
    """Thoughts come back encrypted where thinking was asked for: models that do not think refuse that `include`."""
    include = [INCLUDE_LOGPROBS] if request.logprobs is not None else []
    settings: dict[str, Any] = {}
    if wanted := request.reasoning:
        shown = "thinking" not in quirks.unsupported_for(request.model)
        include += [INCLUDE_ENCRYPTED_REASONING] if shown else []
        effort = wanted.effort or effort_from_budget(wanted.budget) or ""
        chosen = {
            "effort": quirks.effort_aliases.get(effort, effort),
            "summary": "auto" if wanted.visible and shown else None,
        }
        settings["reasoning"] = {name: value for name, value in chosen.items() if value} or {
            "effort": "medium"
        }
    include += request.unmapped_settings.get("include", [])
    return settings | {"include": include} if include else settings


def effort_from_budget(budget: int | None) -> str | None:
    if budget is None or budget < 0:
        return None
    if budget == 0:
        return "none"
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"

"""Requests of generateContent (ai.google.dev/api/generate-content), both ways."""

from typing import Any

import msgspec

from proxy.formats.codec import Quirks, RenderedRequest, has_cache_control
from proxy.formats.gemini.content import FORMAT, PART_METADATA_FIELDS, WireStruct, parse_part
from proxy.formats.gemini.json_schema import with_camel_case_fields
from proxy.formats.gemini.messages import render_contents
from proxy.formats.gemini.reasoning import (
    GenerationConfig,
    parse_reasoning,
    parse_response_format,
    render_settings,
)
from proxy.formats.gemini.tools import (
    ToolConfig,
    apply_tool_choice,
    parse_tool_choice,
    parse_tools,
    render_tools,
)
from proxy.formats.json_body import decode_body, guard_recursion
from proxy.formats.neutral import (
    File,
    Image,
    InvalidRequest,
    Message,
    Part,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    UnsupportedFeature,
)

CACHED_CONTENT = "cachedContent"
TOP_LEVEL_FIELDS = frozenset(
    ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", CACHED_CONTENT, "model")
)
UNMAPPED_RESULT_FIELDS = ("willContinue", "scheduling")
ROLES = {"user": "user", "function": "user", "model": "assistant", "": "user"}


class WireContent(WireStruct):
    role: str | None = None
    parts: list[dict[str, Any]] | dict[str, Any] | None = None


class WireRequest(WireStruct):
    contents: list[WireContent] | WireContent
    system_instruction: WireContent | str | None = None
    tools: list[dict[str, Any]] | dict[str, Any] | None = None
    tool_config: ToolConfig | None = None
    generation_config: dict[str, Any] | None = None
    cached_content: str | None = None


# Reading ------------------------------------------------------------------------------------------------------------------


def parse_request(body: bytes, model: str = "", stream: bool = False) -> Request:
    """Raises BadRequest. The model and whether to stream are in the address."""
    return guard_recursion(
        lambda body: decode_body(
            lambda body: parse_wire_request(with_camel_case_fields(msgspec.json.decode(body)), model, stream),
            body,
        ),
        body,
    )


def parse_wire_request(fields: Any, model: str, stream: bool) -> Request:
    body = msgspec.convert(fields, WireRequest, strict=False)
    config = msgspec.convert(body.generation_config or {}, GenerationConfig, strict=False)
    declared, tool_extras = parse_tools(body.tools)
    tools, choice = apply_tool_choice(declared, parse_tool_choice(body.tool_config))
    return Request(
        model=model,
        messages=parse_messages(body.contents),
        system=parse_system(body.system_instruction),
        tools=(*tools, *cached_content_tools(body)),
        tool_choice=choice,
        max_tokens=config.max_output_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        top_k=None if config.top_k is None else int(config.top_k),
        stop=tuple(config.stop_sequences or ()),
        seed=config.seed,
        presence_penalty=config.presence_penalty,
        frequency_penalty=config.frequency_penalty,
        n=config.candidate_count or 1,
        response_format=parse_response_format(config),
        reasoning=parse_reasoning(config.thinking_config),
        logprobs=(config.logprobs or 0) if config.response_logprobs else None,
        stream=stream,
        unmapped_settings=unmapped_top_level(fields)
        | unmapped_config(body.generation_config or {})
        | unmapped_part_fields(body.contents)
        | tool_extras,
    )


def cached_content_tools(body: WireRequest) -> list[ServerTool]:
    """A cached prefix is content that lies at Google. As a tool of Google's it is refused, not lost, by every other format."""
    if body.cached_content is None:
        return []
    return [ServerTool(origin=FORMAT, kind=CACHED_CONTENT, value=body.cached_content)]


def unmapped_top_level(fields: dict[str, Any]) -> dict[str, Any]:
    config = config if isinstance(config := fields.get("toolConfig"), dict) else {}
    calling = calling if isinstance(calling := config.get("functionCallingConfig"), dict) else {}
    more = {name: value for name, value in config.items() if name != "functionCallingConfig"}
    more |= {
        name: value for name, value in calling.items() if name == "streamFunctionCallArguments" and value
    }
    return {name: value for name, value in fields.items() if name not in TOP_LEVEL_FIELDS} | more


def unmapped_config(config: dict[str, Any]) -> dict[str, Any]:
    """What has no neutral field. Text alone is what every answer is anyway."""
    known = {field.encode_name for field in msgspec.structs.fields(GenerationConfig)}
    extras = {name: value for name, value in config.items() if name not in known}
    if extras.get("responseModalities") in ([], ["TEXT"], ["MODALITY_UNSPECIFIED"]):
        del extras["responseModalities"]
    if config.get("responseMimeType") not in (None, "", "text/plain", "application/json"):
        extras["responseMimeType"] = config["responseMimeType"]
    return extras


def unmapped_part_fields(contents: list[WireContent] | WireContent) -> dict[str, Any]:
    parts = [part for content in as_content_list(contents) for part in content_parts(content)]
    results = [result for part in parts if isinstance(result := part.get("functionResponse"), dict)]
    told = {
        f"functionResponse.{name}": result[name]
        for result in results
        for name in UNMAPPED_RESULT_FIELDS
        if result.get(name)
    }
    return told | {name: part[name] for part in parts for name in PART_METADATA_FIELDS if part.get(name)}


def as_content_list(contents: list[WireContent] | WireContent) -> list[WireContent]:
    return contents if isinstance(contents, list) else [contents]


def content_parts(content: WireContent) -> list[dict[str, Any]]:
    match content.parts:
        case None:
            return []
        case dict():
            return [content.parts]
        case _:
            return content.parts


def parse_system(instruction: WireContent | str | None) -> tuple[Text, ...]:
    match instruction:
        case None:
            return ()
        case str():
            return (Text(text=instruction),)
        case _:
            parts = [part for item in content_parts(instruction) for part in parse_part(item)]
            texts = tuple(part for part in parts if isinstance(part, Text))
            if len(texts) != len(parts):
                raise UnsupportedFeature("Only text can be in the system instruction.", "systemInstruction")
            return texts


def parse_messages(contents: list[WireContent] | WireContent) -> tuple[Message, ...]:
    calls = ToolCallLinker()
    messages = []
    for position, content in enumerate(as_content_list(contents)):
        role = ROLES.get((content.role or "").lower())
        if role is None:
            raise InvalidRequest(
                f"The role {content.role} is not known; use user or model.", f"contents[{position}].role"
            )
        parts = parse_parts(content)
        if any(isinstance(part, ToolCall) for part in parts):
            role = "assistant"
        messages.append(
            Message(role="assistant" if role == "assistant" else "user", parts=tuple(calls.link_turn(parts)))
        )
    return tuple(messages)


def parse_parts(content: WireContent) -> list[Part]:
    """A client that kept a stream's chunks has a thought in pieces, of which the last carries the signature."""
    parts: list[Part] = []
    thought = False
    for item in content_parts(content):
        for part in parse_part(item):
            last = parts[-1] if parts else None
            if (
                isinstance(part, Thinking)
                and isinstance(last, Thinking)
                and thought
                and item.get("thought")
                and not is_signed(last)
            ):
                parts[-1] = msgspec.structs.replace(part, text=last.text + part.text)
            else:
                parts.append(part)
        thought = bool(item.get("thought"))
    return parts


def is_signed(part: Thinking) -> bool:
    return part.signature is not None or part.redacted is not None


class ToolCallLinker:
    """Gives every call an id of its own and every result that of its call: Gemini's clients leave ids out, and repeat them.

    The ids made here count up, so that the same history is the same prompt each time and providers can cache it.
    """

    def __init__(self) -> None:
        self.used_ids: set[str] = set()
        self.unanswered: list[tuple[str, ToolCall]] = []

    def link_turn(self, parts: list[Part]) -> list[Part]:
        if any(isinstance(part, ToolCall) for part in parts):
            self.unanswered = []
        return [self.link(part) for part in parts]

    def link(self, part: Part) -> Part:
        match part:
            case ToolCall():
                call = msgspec.structs.replace(part, id=self.unique_id(part.id))
                self.unanswered.append((part.id, call))
                return call
            case ToolResult():
                call_id = self.match_result(part)
                return msgspec.structs.replace(part, call_id=call_id)
            case _:
                return part

    def unique_id(self, given: str) -> str:
        number, made = len(self.used_ids), given
        while not made or made in self.used_ids:
            number, made = number + 1, f"call_{number:024d}"
        self.used_ids.add(made)
        return made

    def match_result(self, result: ToolResult) -> str:
        """The call that a result answers: the one of its id, the first of its name, the first that waits."""
        by_id = [pair for pair in self.unanswered if result.call_id and pair[0] == result.call_id]
        by_name = [pair for pair in self.unanswered if pair[1].name == result.name]
        for pair in (*by_id, *by_name, *self.unanswered):
            self.unanswered.remove(pair)
            return pair[1].id
        return result.call_id or self.unique_id("")


# Writing ------------------------------------------------------------------------------------------------------------------


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Raises Inexpressible. The model and whether to stream go into the address."""
    request, dropped = without_unsupported(request, quirks)
    system = [text for text in (*request.system, *inline_system_text(request)) if text.text]
    body: dict[str, Any] = {"contents": render_contents(request)}
    if system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    body |= render_tools(request) | render_settings(request, dropped)
    for tool in request.tools:
        if isinstance(tool, ServerTool) and tool.kind == CACHED_CONTENT:
            body[CACHED_CONTENT] = tool.value
    return RenderedRequest(body, [*dropped, *dropped_settings(request), *request.unmapped_settings])


def without_unsupported(request: Request, quirks: Quirks) -> tuple[Request, list[str]]:
    defaults = {
        field.name: field.default
        for field in msgspec.structs.fields(Request)
        if field.default is not msgspec.NODEFAULT
    }
    names = quirks.unsupported_for(request.model)
    rejected = {
        name: default
        for name, default in defaults.items()
        if name in names and getattr(request, name) != default
    }
    return msgspec.structs.replace(request, **rejected), list(rejected)


def inline_system_text(request: Request) -> list[Text]:
    """Gemini knows instructions at the start only."""
    messages = [message for message in request.messages if message.role == "system"]
    return [part for message in messages for part in message.parts if isinstance(part, Text)]


def dropped_settings(request: Request) -> list[str]:
    """Settings that Gemini has no words for, by their neutral names."""
    parts = [part for message in request.messages for part in message.parts]
    facts = {
        "parallel_tool_calls": request.parallel_tool_calls is False,
        "user": request.user is not None,
        "strict": any(isinstance(tool, Tool) and tool.strict for tool in request.tools),
        "cache": has_cache_control(request),
        "filename": any(isinstance(part, File) and part.name for part in parts),
        "detail": any(isinstance(part, Image) and part.detail not in (None, "auto") for part in parts),
    }
    return [name for name, is_left_out in facts.items() if is_left_out]

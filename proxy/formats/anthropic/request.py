"""Requests of the Messages API, both ways (platform.claude.com/docs/en/api/messages)."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw
from msgspec.structs import fields, replace

from proxy.formats.anthropic.calls import ToolCallLinker
from proxy.formats.anthropic.capabilities import ModelCapabilities, model_capabilities
from proxy.formats.anthropic.content import (
    CacheControl,
    decode_any,
    parse_content,
    render_text,
    with_cache_control,
)
from proxy.formats.anthropic.json_schema import input_schema, output_schema
from proxy.formats.anthropic.messages import render_messages
from proxy.formats.anthropic.reasoning import WireThinking, is_thinking, parse_reasoning, render_thinking
from proxy.formats.codec import Quirks, RenderedRequest
from proxy.formats.custom_tools import as_function_tool
from proxy.formats.json_body import decode_body, encode, guard_recursion
from proxy.formats.metering.billable import dict_items
from proxy.formats.neutral import (
    Image,
    Message,
    Opaque,
    Part,
    Request,
    ResponseFormat,
    ServerTool,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    UnsupportedFeature,
)

PATH = "/v1/messages"
MCP_SERVERS = "mcp_servers"
MAX_USER_ID_LENGTH = 256
JSON_INSTRUCTION = "Answer with one valid JSON object and nothing else: no other text, no Markdown."
UNMAPPED_TOOL_FIELDS = ("allowed_callers", "defer_loading", "eager_input_streaming", "input_examples")
DEFAULT_VALUES: dict[str, Any] = {"tools.allowed_callers": ["direct"], "tools.input_examples": []}
"""Settings that ask for what is so anyway."""
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]


# Reading ------------------------------------------------------------------------------------------------------------------


class WireMessage(msgspec.Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[Raw] | None = None


class WireTool(msgspec.Struct):
    type: str | None = None
    name: str = ""
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl | None = None


class WireToolChoice(msgspec.Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class WireFormat(msgspec.Struct):
    type: str
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: WireFormat | None = None


class Metadata(msgspec.Struct):
    user_id: str | None = None


class WireRequest(msgspec.Struct):
    model: Annotated[str, Meta(min_length=1, max_length=200)]
    messages: Annotated[list[WireMessage], Meta(min_length=1)]
    max_tokens: TokenLimit | None = None
    system: str | list[Raw] | None = None
    tools: list[Raw] | None = None
    mcp_servers: list[dict[str, Any]] | None = None
    tool_choice: WireToolChoice | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    thinking: WireThinking | None = None
    output_config: OutputConfig | None = None
    output_format: WireFormat | None = None
    metadata: Metadata | None = None
    stream: bool | None = None


decode_request = msgspec.json.Decoder(WireRequest).decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode
decode_tool = msgspec.json.Decoder(WireTool).decode


def request_path(model: str, stream: bool) -> str:
    return PATH


def parse_request(body: bytes, model: str = "", stream: bool = False) -> Request:
    """Raises BadRequest."""
    return guard_recursion(parse_wire_request, body)


def parse_wire_request(body: bytes) -> Request:
    wire = decode_body(decode_request, body)
    config = wire.output_config or OutputConfig()
    return Request(
        model=wire.model,
        messages=parse_messages(wire.messages),
        system=parse_system(wire.system),
        tools=parse_tools(wire),
        tool_choice=parse_tool_choice(wire.tool_choice),
        parallel_tool_calls=parse_parallel_tool_calls(wire.tool_choice),
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        stop=tuple(wire.stop_sequences or ()),
        response_format=parse_response_format(config.format or wire.output_format),
        reasoning=parse_reasoning(wire.thinking, config.effort),
        user=wire.metadata.user_id if wire.metadata else None,
        stream=bool(wire.stream),
        unmapped_settings=parse_unmapped_settings(body),
    )


def parse_unmapped_settings(body: bytes) -> dict[str, Any]:
    """What has no neutral field, by the names of the fields that it stands in."""
    given: dict[str, Any] = decode_object(body)
    config: dict[str, Any] = given.get("output_config") or {}
    tools = [tool for tool in dict_items(given.get("tools")) if tool.get("type") in (None, "custom")]
    thinking: dict[str, Any] = given.get("thinking") or {}
    named = {f"tools.{name}": tool[name] for tool in tools for name in UNMAPPED_TOOL_FIELDS if name in tool}
    named |= {
        f"output_config.{name}": value
        for name, value in config.items()
        if name not in OutputConfig.__struct_fields__
    }
    named |= {
        f"thinking.{name}": value
        for name, value in thinking.items()
        if name not in WireThinking.__struct_fields__
    }
    named["citations"] = b'"citations"' in body and any(map(wants_citations, blocks_in(given["messages"])))
    named |= {name: value for name, value in given.items() if name not in WireRequest.__struct_fields__}
    return {
        name: value
        for name, value in named.items()
        if value not in (None, False) and value != DEFAULT_VALUES.get(name)
    }


def blocks_in(messages: Any) -> Iterator[dict[str, Any]]:
    """The blocks of messages, and of the results of tools in them."""
    for message in dict_items(messages):
        for block in dict_items(message.get("content")):
            yield block
            yield from blocks_in([block])


def wants_citations(block: dict[str, Any]) -> bool:
    match block:
        case {"type": "document" | "search_result", "citations": {"enabled": True}}:
            return True
        case _:
            return False


def parse_messages(wire: list[WireMessage]) -> tuple[Message, ...]:
    calls = ToolCallLinker()
    return tuple(
        Message(
            role=message.role,
            parts=tuple(calls.link(compaction_as_text(part)) for part in parse_content(message.content)),
        )
        for message in wire
    )


def compaction_as_text(part: Part) -> Part:
    """The summary that stands for an earlier part of the conversation is text to every other provider (docs, "Compaction")."""
    match part:
        case Opaque(kind="compaction", value={"content": str(summary)}) if summary:
            return Text(text=summary)
        case _:
            return part


def parse_system(system: str | list[Raw] | None) -> tuple[Text, ...]:
    parts = parse_content(system)
    texts = tuple(part for part in parts if isinstance(part, Text))
    if len(texts) != len(parts):
        raise UnsupportedFeature("Only text can be in the system prompt.", "system")
    return texts


def parse_tools(wire: WireRequest) -> tuple[Tool | ServerTool, ...]:
    servers = [
        ServerTool(origin="anthropic", kind=MCP_SERVERS, value=server) for server in wire.mcp_servers or ()
    ]
    return (*map(parse_tool, wire.tools or ()), *servers)


def parse_tool(raw: Raw) -> Tool | ServerTool:
    """A tool without a type is the client's. Typed ones have the provider's own schemas, even where the client runs them."""
    tool = decode_body(decode_tool, bytes(raw))
    if tool.type not in (None, "custom"):
        return ServerTool(origin="anthropic", kind=tool.type or "", value=decode_body(decode_any, bytes(raw)))
    cache = (tool.cache_control.ttl or "5m") if tool.cache_control else None
    return Tool(
        name=tool.name,
        description=tool.description or "",
        schema=tool.input_schema,
        strict=tool.strict,
        cache=cache,
    )


def parse_tool_choice(choice: WireToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    match choice.type:
        case "any":
            return ToolChoice(mode="required")
        case "tool":
            return ToolChoice(mode="required", names=(choice.name or "",))
        case "auto" | "none":
            return ToolChoice(mode=choice.type)


def parse_parallel_tool_calls(choice: WireToolChoice | None) -> bool | None:
    if choice is None or choice.disable_parallel_tool_use is None:
        return None
    return not choice.disable_parallel_tool_use


def parse_response_format(format: WireFormat | None) -> ResponseFormat | None:
    return ResponseFormat(schema=format.schema, strict=True) if format else None


# Writing ------------------------------------------------------------------------------------------------------------------


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Raises Inexpressible."""
    request, dropped = without_unsupported(request, quirks)
    known = model_capabilities(request.model)
    messages, moved = render_messages(
        request.messages, supports_system_messages=known.supports_system_messages
    )
    rendered = RenderedRequest({"model": request.model, "max_tokens": 0, "messages": messages}, dropped)
    render_system(rendered, request, known, moved)
    render_tools(rendered, request, known)
    limit = request.max_tokens or known.default_max_tokens
    rendered.body["max_tokens"] = render_thinking(rendered, request, known, limit)
    render_tool_choice(rendered, request)
    render_sampling(rendered, request, known)
    render_response_format(rendered, request, known)
    render_settings(rendered, request)
    return rendered


def without_unsupported(request: Request, quirks: Quirks) -> tuple[Request, list[str]]:
    """Without what this server rejects, and the names of it and of all that no other format has."""
    rejected = quirks.unsupported_for(request.model)
    unset = {
        field.name: field.default
        for field in fields(Request)
        if field.name in rejected
        and field.default is not msgspec.NODEFAULT
        and getattr(request, field.name) != field.default
    }
    return replace(request, **unset), [*unset, *request.unmapped_settings]


def render_system(
    rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities, moved_texts: list[Text]
) -> None:
    told = schema_instruction(request.response_format, capabilities)
    texts = [text for text in (*request.system, *moved_texts) if text.text.strip()] + told
    if len(texts) == 1 and not texts[0].cache:
        rendered.body["system"] = texts[0].text
    elif texts:
        rendered.body["system"] = [with_cache_control(render_text(text), text.cache) for text in texts]


def schema_instruction(format: ResponseFormat | None, capabilities: ModelCapabilities) -> list[Text]:
    """What the API has no setting for is asked for in words: JSON of any kind, and a schema where the model is older than those."""
    if format is None or (format.schema is not None and capabilities.supports_structured_output):
        return []
    if format.schema is None:
        return [Text(text=JSON_INSTRUCTION)]
    return [Text(text=f"{JSON_INSTRUCTION} It must match this JSON Schema: {encode(format.schema).decode()}")]


def render_response_format(
    rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities
) -> None:
    format = request.response_format
    if format is None or format.schema is None:
        return
    if not capabilities.supports_structured_output:
        rendered.dropped.append("response_format")
        return
    schema = output_schema(format.schema)
    if format.description:
        schema.setdefault("description", format.description)
    config = rendered.body.get("output_config", {})
    rendered.body["output_config"] = {**config, "format": {"type": "json_schema", "schema": schema}}


def render_tools(rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities) -> None:
    """A choice among some of the tools is a choice among all, where only those are declared."""
    names = request.tool_choice.names if request.tool_choice else ()
    some = names if len(names) > 1 else ()
    tools = [tool for tool in request.tools if not some or not isinstance(tool, Tool) or tool.name in some]
    declared = [
        render_tool(tool, capabilities)
        for tool in tools
        if not (isinstance(tool, ServerTool) and tool.kind == MCP_SERVERS)
    ]
    servers = [
        render_tool(tool, capabilities)
        for tool in tools
        if isinstance(tool, ServerTool) and tool.kind == MCP_SERVERS
    ]
    if not declared:
        declared = [
            {"name": name, "input_schema": input_schema(None, name)} for name in called_tool_names(request)
        ]
    if declared:
        rendered.body["tools"] = declared
    if servers:
        rendered.body[MCP_SERVERS] = servers


def called_tool_names(request: Request) -> list[str]:
    """Tools that the history calls: the API refuses calls where no tool is declared."""
    return list(
        dict.fromkeys(
            part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)
        )
    )


def render_tool(tool: Tool | ServerTool, capabilities: ModelCapabilities) -> dict[str, Any]:
    if isinstance(tool, ServerTool):
        if tool.origin != "anthropic":
            raise UnsupportedFeature(f"Claude has no counterpart to the tool {tool.kind}.", "tools")
        value: dict[str, Any] = tool.value
        return value
    tool = as_function_tool(tool)
    rendered: dict[str, Any] = {"name": tool.name, "input_schema": input_schema(tool.schema, tool.name)}
    if tool.description:
        rendered["description"] = tool.description
    if tool.strict and capabilities.supports_structured_output:
        rendered |= {"strict": True, "input_schema": output_schema(rendered["input_schema"])}
    return with_cache_control(rendered, tool.cache)


def render_tool_choice(rendered: RenderedRequest, request: Request) -> None:
    """A model that thinks cannot be forced to call (docs, "Extended thinking with tool use")."""
    choice = request.tool_choice or ToolChoice()
    if "tools" not in rendered.body:
        if choice.mode == "required":
            rendered.dropped.append("tool_choice")
        return
    if not request.tools or choice.mode == "none":
        rendered.body["tool_choice"] = {"type": "none"}
        return
    wire: dict[str, Any] = {"type": "auto"}
    if choice.mode == "required" and is_thinking(rendered):
        rendered.dropped.append("tool_choice")
    elif choice.mode == "required":
        wire = {"type": "tool", "name": choice.names[0]} if len(choice.names) == 1 else {"type": "any"}
    if request.parallel_tool_calls is not None:
        wire["disable_parallel_tool_use"] = not request.parallel_tool_calls
    if request.tool_choice is not None or len(wire) > 1:
        rendered.body["tool_choice"] = wire


def render_sampling(rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities) -> None:
    """Models that think, and all of the newest, sample as they like; from 4.1 on, temperature and top_p exclude each other."""
    settings = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(request, name)) is not None
    }
    if is_thinking(rendered) or not capabilities.supports_sampling:
        rendered.dropped += [name for name, value in settings.items() if (name, value) != ("temperature", 1)]
        settings = (
            {"temperature": 1} if settings.get("temperature") == 1 and capabilities.supports_sampling else {}
        )
    if "temperature" in settings and "top_p" in settings and not capabilities.supports_temperature_with_top_p:
        rendered.dropped.append("top_p")
        del settings["top_p"]
    if "temperature" in settings:
        rendered.dropped += ["temperature"] if settings["temperature"] > 1 else []
        settings["temperature"] = min(settings["temperature"], 1)
    rendered.body |= settings


def render_settings(rendered: RenderedRequest, request: Request) -> None:
    body, dropped = rendered.body, rendered.dropped
    stop = [sequence for sequence in request.stop if sequence.strip()]
    if stop:
        body["stop_sequences"] = stop
    if len(stop) < len(request.stop):
        dropped.append("stop")
    if request.user and len(request.user) <= MAX_USER_ID_LENGTH:
        body["metadata"] = {"user_id": request.user}
    elif request.user:
        dropped.append("user")
    if request.stream:
        body["stream"] = True
    dropped += [
        name
        for name in ("seed", "presence_penalty", "frequency_penalty", "logprobs")
        if getattr(request, name) is not None
    ]
    if request.n > 1:
        dropped.append("n")
    parts = [part for message in request.messages for part in message.parts]
    if any(isinstance(part, Image) and part.detail not in (None, "auto") for part in parts):
        dropped.append("detail")

"""Requests of the Messages API, parsed and rendered (platform.claude.com/docs/en/api/messages)."""

from typing import Any

from proxy.formats.anthropic.capabilities import ModelCapabilities, model_capabilities
from proxy.formats.anthropic.content import parse_parts, render_text, with_cache_control
from proxy.formats.anthropic.json_schema import output_schema
from proxy.formats.anthropic.messages import parse_messages, render_messages
from proxy.formats.anthropic.reasoning import (
    fit_budget,
    is_thinking,
    leaves_no_budget,
    parse_reasoning,
    render_budget,
    render_reasoning,
)
from proxy.formats.anthropic.tools import (
    parse_parallel_tool_calls,
    parse_tool_choice,
    parse_tools,
    render_tool_choice,
    render_tools,
)
from proxy.formats.anthropic.wire import (
    OutputConfig,
    WireFormat,
    WireRequest,
    WireThinking,
)
from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import convert_json, dict_items, encode
from proxy.formats.neutral import Image, Request, ResponseFormat, Text, UnsupportedFeature
from proxy.formats.quirks import Quirks, drop_unsupported

PATH = "/v1/messages"
JSON_INSTRUCTION = "Answer with one valid JSON object and nothing else: no other text, no Markdown."
UNMAPPED_TOOL_FIELDS = ("allowed_callers", "defer_loading", "eager_input_streaming", "input_examples")
DEFAULT_VALUES: dict[str, Any] = {"tools.allowed_callers": ["direct"], "tools.input_examples": []}
"""Settings with their default values. Nothing is lost if a setting with this value is dropped."""


def request_path(model: str, stream: bool) -> str:
    return PATH


def parse_request(fields: dict[str, Any], model: str = "", stream: bool = False) -> Request:
    """Parse a request. Raises InvalidRequest."""
    wire = convert_json(fields, WireRequest)
    config, tools = wire.output_config or OutputConfig(), parse_tools(wire)
    return Request(
        model=wire.model,
        messages=parse_messages(wire.messages),
        system=parse_system(wire.system),
        tools=tools,
        tool_choice=parse_tool_choice(wire.tool_choice, tools),
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
        unmapped_settings=parse_unmapped_settings(fields),
    )


def parse_unmapped_settings(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the unmapped settings, by their paths."""
    config: dict[str, Any] = fields.get("output_config") or {}
    tools = [tool for tool in dict_items(fields.get("tools")) if tool.get("type") in (None, "custom")]
    thinking: dict[str, Any] = fields.get("thinking") or {}
    settings = {
        f"tools.{name}": tool[name] for tool in tools for name in UNMAPPED_TOOL_FIELDS if name in tool
    }
    settings |= {
        f"output_config.{name}": value
        for name, value in config.items()
        if name not in OutputConfig.__struct_fields__
    }
    settings |= {
        f"thinking.{name}": value
        for name, value in thinking.items()
        if name not in WireThinking.__struct_fields__
    }
    settings["citations"] = any(
        wants_citations(message.get("content")) for message in dict_items(fields.get("messages"))
    )
    settings |= {name: value for name, value in fields.items() if name not in WireRequest.__struct_fields__}
    return {
        name: value
        for name, value in settings.items()
        if value not in (None, False) and value != DEFAULT_VALUES.get(name)
    }


def wants_citations(content: Any) -> bool:
    """Return whether a block asks for citations, or a block inside of a tool result does."""
    return any(
        is_cited(block) if "citations" in block else wants_citations(block.get("content"))
        for block in dict_items(content)
    )


def is_cited(block: dict[str, Any]) -> bool:
    match block:
        case {"type": "document" | "search_result", "citations": {"enabled": True}}:
            return True
        case _:
            return False


def parse_system(system: str | list[dict[str, Any]] | None) -> tuple[Text, ...]:
    parts = parse_parts(system)
    texts = tuple(part for part in parts if isinstance(part, Text))
    if len(texts) != len(parts):
        raise UnsupportedFeature("The system prompt can contain only text.", "system")
    return texts


def parse_response_format(format: WireFormat | None) -> ResponseFormat | None:
    return ResponseFormat(schema=format.schema, strict=True) if format else None


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Render a request. Raises UnsupportedFeature."""
    request, dropped = drop_unsupported(request, quirks.unsupported_for(request.model))
    dropped += request.unmapped_settings
    capabilities = model_capabilities(request.model)
    messages, moved = render_messages(
        request.messages, request.model, supports_system_messages=capabilities.supports_system_messages
    )
    rendered = RenderedRequest({"model": request.model, "max_tokens": 0, "messages": messages}, dropped)
    render_system(rendered, request, capabilities, moved)
    render_tools(rendered, request, capabilities)
    limit = request.max_tokens or capabilities.default_max_tokens
    rendered.body["max_tokens"] = render_reasoning(rendered, request, capabilities, limit)
    render_tool_choice(rendered, request)
    render_sampling(rendered, request)
    render_response_format(rendered, request, capabilities)
    render_settings(rendered, request)
    return rendered


def render_max_tokens(rendered: RenderedRequest, request: Request, quirks: Quirks) -> None:
    """Set the output limit, and the thinking budget, which must be lower."""
    body, limit = rendered.body, request.max_tokens
    if request.reasoning is not None and "budget_tokens" in body.get("thinking", {}):
        if leaves_no_budget(limit):
            del body["thinking"]
            rendered.dropped.append("reasoning")
        else:
            body["thinking"]["budget_tokens"], limit = fit_budget(render_budget(request.reasoning), limit)
    body["max_tokens"] = limit


def render_system(
    rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities, moved_texts: list[Text]
) -> None:
    instructions = schema_instruction(request.response_format, capabilities)
    texts = [text for text in (*request.system, *moved_texts) if text.text.strip()] + instructions
    if len(texts) == 1 and not texts[0].cache:
        rendered.body["system"] = texts[0].text
    elif texts:
        rendered.body["system"] = [with_cache_control(render_text(text), text.cache) for text in texts]


def schema_instruction(format: ResponseFormat | None, capabilities: ModelCapabilities) -> list[Text]:
    """Return an instruction for the response format, if the API cannot enforce the format.

    The API has no setting for JSON without a schema, and older models do not support schemas.
    """
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


def render_sampling(rendered: RenderedRequest, request: Request) -> None:
    """Render temperature, top_p and top_k, as far as the model accepts them while it thinks."""
    settings = {
        name: value
        for name in ("temperature", "top_p", "top_k")
        if (value := getattr(request, name)) is not None
    }
    if is_thinking(rendered):
        rendered.dropped += [name for name, value in settings.items() if (name, value) != ("temperature", 1)]
        settings = {"temperature": 1} if settings.get("temperature") == 1 else {}
    rendered.body |= settings


def render_settings(rendered: RenderedRequest, request: Request) -> None:
    body, dropped = rendered.body, rendered.dropped
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    if request.user:
        body["metadata"] = {"user_id": request.user}
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

"""Requests, parsed and rendered (platform.openai.com/docs/api-reference/responses/create)."""

import re
from typing import Any

import msgspec

from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import as_dict, convert_json, dict_items, encode
from proxy.formats.neutral import File, InvalidRequest, Request, ResponseFormat, ServerTool, ToolChoice
from proxy.formats.openai_responses.capabilities import (
    OMITTABLE_VALUES,
    RESPONSES_ONLY_SETTINGS,
    UNSUPPORTED_SETTINGS,
    stateful_features,
)
from proxy.formats.openai_responses.content import PARAGRAPH_BREAK
from proxy.formats.openai_responses.messages import parse_messages, render_messages
from proxy.formats.openai_responses.reasoning import (
    INCLUDE_ENCRYPTED_REASONING,
    INCLUDE_LOGPROBS,
    parse_reasoning,
    render_reasoning,
)
from proxy.formats.openai_responses.summaries import wants_summary
from proxy.formats.openai_responses.tools import (
    PLAIN_TYPES,
    Tools,
    brought_tools,
    flat_names,
    lost_call_limits,
    parse_tool_choice,
    parse_tools,
    render_tools,
)
from proxy.formats.openai_responses.wire import WireFormat, WireRequest
from proxy.formats.quirks import Quirks, adapt_to_quirks, drop_unsupported, has_cache_control
from proxy.formats.tools.settings import parse_limit

UNMAPPED_TOOL_FIELDS = ("allowed_callers", "async", "defer_loading", "output_schema")
CALL_LIMIT = "max_tool_calls"
"""The field that limits all calls of OpenAI's server tools together."""
PATH = "/responses"
JSON_INSTRUCTION = {"type": "message", "role": "system", "content": "Answer in JSON."}


# Reading ------------------------------------------------------------------------------------------


def parse_request(fields: dict[str, Any], model: str = "", stream: bool = False) -> Request:
    """Return the neutral request. Raises InvalidRequest."""
    wire = with_updates(convert_json(fields, WireRequest))
    given, brought = list(wire.tools or ()), brought_tools(wire.input)
    declared = given + brought
    names = flat_names(declared)
    tools = with_call_limit(parse_tools(given, brought, wire.tool_choice, names), fields.get(CALL_LIMIT))
    system, messages = parse_messages(wire.instructions, wire.input, names)
    compacts = bool(tools) and wants_summary(messages)
    return Request(
        model=wire.model or model,
        messages=messages,
        system=system,
        tools=tools,
        tool_choice=ToolChoice(mode="none") if compacts else parse_tool_choice(wire.tool_choice, names),
        parallel_tool_calls=wire.parallel_tool_calls,
        max_tokens=wire.max_output_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        response_format=parse_response_format(wire.text or {}),
        reasoning=parse_reasoning(wire.reasoning or {}),
        logprobs=(wire.top_logprobs or 0) if INCLUDE_LOGPROBS in (wire.include or ()) else None,
        user=wire.user,
        stream=bool(wire.stream),
        unmapped_settings=without_known_limit(parse_unmapped_settings(fields, wire, declared), tools),
    )


def with_updates(wire: WireRequest) -> WireRequest:
    """Return the request with the setting changes that its input contains.

    If several items change a setting, the last one counts.

    Source: the SDK `openai`, `response_configuration_update_item`.
    """
    updates = [item for item in dict_items(wire.input) if item.get("type") == "configuration_update"]
    for update in updates:
        reasoning, text = (
            (wire.reasoning or {}) | as_dict(update.get("reasoning")),
            as_dict(update.get("text")),
        )
        wire = msgspec.structs.replace(
            wire, reasoning=reasoning or None, text=(wire.text or {}) | text if text else wire.text
        )
    return wire


def with_call_limit(tools: Tools, limit: Any) -> Tools:
    """Return the tools.

    The request's limit for all server tools together becomes the limit of each of them.
    """
    uses = parse_limit(limit)
    return tuple(
        msgspec.structs.replace(tool, shared=msgspec.structs.replace(tool.shared, max_uses=uses))
        if isinstance(tool, ServerTool) and tool.shared and uses
        else tool
        for tool in tools
    )


def without_known_limit(settings: dict[str, Any], tools: Tools) -> dict[str, Any]:
    """Return the settings without the limit of all calls, unless several server tools share it."""
    limited = [tool for tool in tools if isinstance(tool, ServerTool)]
    return {name: value for name, value in settings.items() if name != CALL_LIMIT or len(limited) > 1}


def parse_unmapped_settings(
    fields: dict[str, Any], wire: WireRequest, declared: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the unmapped settings, by their paths."""
    known = set(WireRequest.__struct_fields__)
    rest = {name: value for name, value in fields.items() if name not in known}
    rest["include"] = [
        name for name in wire.include or () if name not in (INCLUDE_LOGPROBS, INCLUDE_ENCRYPTED_REASONING)
    ]
    rest["top_logprobs"] = None if INCLUDE_LOGPROBS in (wire.include or ()) else wire.top_logprobs
    rest |= {f"text.{name}": value for name, value in (wire.text or {}).items() if name != "format"}
    mapped = ("effort", "summary", "generate_summary")
    members = [member for tool in declared for member in dict_items(tool.get("tools"))]
    own = [tool for tool in [*declared, *members] if tool.get("type") in PLAIN_TYPES]
    rest |= {
        f"tools.{name}": tool[name]
        for tool in own
        for name in UNMAPPED_TOOL_FIELDS
        if tool.get(name) not in (None, False, ["direct"])
    }
    rest["detail"] = True if any(map(has_detail, input_files(wire.input))) else None
    rest |= {
        f"reasoning.{name}": value for name, value in (wire.reasoning or {}).items() if name not in mapped
    }
    return {
        name: value
        for name, value in rest.items()
        if value is not None and value != OMITTABLE_VALUES.get(name)
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


# Writing ------------------------------------------------------------------------------------------


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Render a request for a provider. Raises UnsupportedFeature."""
    rejected = quirks.unsupported_for(request.model)
    request, dropped = drop_unsupported(adapt_to_quirks(request, quirks), rejected | UNSUPPORTED_SETTINGS)
    dropped += lost_call_limits(request)
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


def render_max_tokens(rendered: RenderedRequest, request: Request, quirks: Quirks) -> None:
    rendered.body["max_output_tokens"] = request.max_tokens


def has_named_file_urls(request: Request) -> bool:
    """Return whether a file loses its name, because it is sent as a URL.

    OpenAI rejects a file with both `filename` and `file_url` ("mutually exclusive").
    """
    parts = [part for message in request.messages for part in message.parts]
    return any(isinstance(part, File) and part.name and part.url and part.data is None for part in parts)


def render_conversation(request: Request) -> dict[str, Any]:
    """Render the fields `instructions` and `input`.

    In JSON mode, OpenAI requires the word JSON in the input; the instructions are not enough
    (docs/guides/structured-outputs, "JSON mode"). The system prompt is then sent in the input.
    """
    items = render_messages(request.messages)
    system = PARAGRAPH_BREAK.join(text.text for text in request.system)
    if request.response_format != ResponseFormat():
        return {"instructions": system, "input": items} if system else {"input": items}
    if system:
        items.insert(0, {"type": "message", "role": "system", "content": system})
    return {"input": items if b"json" in encode(items).lower() else [*items, JSON_INSTRUCTION]}


def render_settings(request: Request) -> dict[str, Any]:
    """Render the settings. The provider need not store the response, because the client sends its history."""
    given = {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "user": request.user,
        "stream": request.stream or None,
        "top_logprobs": request.logprobs,
        "text": render_response_format(request.response_format) if request.response_format else None,
        "store": False if not stateful_features(request) else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def render_response_format(response_format: ResponseFormat) -> dict[str, Any]:
    if response_format.schema is None:
        return {"format": {"type": "json_object"}}
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", response_format.name)[:64] or "answer"
    chosen = {"description": response_format.description, "strict": response_format.strict}
    given = {field: value for field, value in chosen.items() if value is not None}
    return {"format": {"type": "json_schema", "name": name, "schema": response_format.schema, **given}}


def request_path(model: str, stream: bool) -> str:
    return PATH

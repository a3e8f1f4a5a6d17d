"""Requests of generateContent, parsed and rendered (ai.google.dev/api/generate-content)."""

from typing import Any
from urllib.parse import quote

import msgspec

from proxy.formats.codec import RenderedRequest
from proxy.formats.gemini.content import PART_METADATA_FIELDS
from proxy.formats.gemini.json_schema import to_json_schema
from proxy.formats.gemini.messages import (
    as_content_list,
    content_parts,
    parse_messages,
    parse_system,
    render_messages,
)
from proxy.formats.gemini.reasoning import parse_reasoning, render_reasoning
from proxy.formats.gemini.tools import (
    CACHED_CONTENT,
    apply_tool_choice,
    parse_tool_choice,
    parse_tools,
    render_tools,
)
from proxy.formats.gemini.wire import FORMAT, GenerationConfig, WireRequest, WireTurn, with_camel_case_fields
from proxy.formats.json_body import convert_json
from proxy.formats.neutral import File, Image, Request, ResponseFormat, ServerTool, Text, Tool
from proxy.formats.quirks import Quirks, drop_unsupported, has_cache_control

TOP_LEVEL_FIELDS = frozenset(
    ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", CACHED_CONTENT, "model")
)
UNMAPPED_RESULT_FIELDS = ("willContinue", "scheduling")
JSON_TYPE = "application/json"


def request_path(model: str, stream: bool) -> str:
    """Return the path of a request.

    The gateway always requests a stream as server-sent events, because the elements of a JSON array cannot be
    separated without parsing them.
    """
    return (
        f"{model_path(model)}:streamGenerateContent?alt=sse"
        if stream
        else f"{model_path(model)}:generateContent"
    )


def model_path(model: str) -> str:
    return f"/v1beta/models/{quote(model, safe='')}"


def parse_request(fields: dict[str, Any], model: str = "", stream: bool = False) -> Request:
    """Parse a request. The URL names the model and says whether to stream. Raises InvalidRequest."""
    fields = with_camel_case_fields(fields)
    body = convert_json(fields, WireRequest, strict=False)
    config = convert_json(body.generation_config or {}, GenerationConfig, strict=False)
    declared, unmapped_tool_fields = parse_tools(body.tools)
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
        unmapped_settings=parse_unmapped_settings(fields, body) | unmapped_tool_fields,
    )


def parse_response_format(config: GenerationConfig) -> ResponseFormat | None:
    if config.response_mime_type != JSON_TYPE:
        return None
    return ResponseFormat(
        schema=config.response_json_schema or to_json_schema(config.response_schema) or None
    )


def cached_content_tools(body: WireRequest) -> list[ServerTool]:
    """Return the request's cached content, which Google stores, as a server tool.

    Other formats reject a server tool that refers to data of the caller. The content is therefore never
    dropped silently.
    """
    if body.cached_content is None:
        return []
    return [ServerTool(origin=FORMAT, kind=CACHED_CONTENT, value=body.cached_content, is_caller_data=True)]


def parse_unmapped_settings(fields: dict[str, Any], body: WireRequest) -> dict[str, Any]:
    """Return the settings without a neutral field, by the names of their fields."""
    return (
        unmapped_top_level(fields)
        | unmapped_config(body.generation_config or {})
        | unmapped_part_fields(body.contents)
    )


def unmapped_top_level(fields: dict[str, Any]) -> dict[str, Any]:
    config = config if isinstance(config := fields.get("toolConfig"), dict) else {}
    calling = calling if isinstance(calling := config.get("functionCallingConfig"), dict) else {}
    unmapped = {name: value for name, value in config.items() if name != "functionCallingConfig"}
    unmapped |= {
        name: value for name, value in calling.items() if name == "streamFunctionCallArguments" and value
    }
    return {name: value for name, value in fields.items() if name not in TOP_LEVEL_FIELDS} | unmapped


def unmapped_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings without a neutral field.

    A setting that asks for text only is left out, because every response of the gateway can contain text.
    """
    known = {field.encode_name for field in msgspec.structs.fields(GenerationConfig)}
    unmapped = {name: value for name, value in config.items() if name not in known}
    if unmapped.get("responseModalities") in ([], ["TEXT"], ["MODALITY_UNSPECIFIED"]):
        del unmapped["responseModalities"]
    if config.get("responseMimeType") not in (None, "", "text/plain", "application/json"):
        unmapped["responseMimeType"] = config["responseMimeType"]
    return unmapped


def unmapped_part_fields(contents: list[WireTurn] | WireTurn) -> dict[str, Any]:
    parts = [part for content in as_content_list(contents) for part in content_parts(content)]
    results = [result for part in parts if isinstance(result := part.get("functionResponse"), dict)]
    unmapped = {
        f"functionResponse.{name}": result[name]
        for result in results
        for name in UNMAPPED_RESULT_FIELDS
        if result.get(name)
    }
    return unmapped | {name: part[name] for part in parts for name in PART_METADATA_FIELDS if part.get(name)}


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Render a request. Raises UnsupportedFeature.

    The URL names the model and says whether to stream.
    """
    request, dropped = drop_unsupported(request, quirks.unsupported_for(request.model))
    system = [text for text in (*request.system, *inline_system_text(request)) if text.text]
    body: dict[str, Any] = {"contents": render_messages(request)}
    if system:
        body["systemInstruction"] = {"parts": [{"text": text.text} for text in system]}
    body |= render_tools(request) | render_settings(request)
    for tool in request.tools:
        if isinstance(tool, ServerTool) and tool.kind == CACHED_CONTENT:
            body[CACHED_CONTENT] = tool.value
    return RenderedRequest(body, [*dropped, *dropped_settings(request), *request.unmapped_settings])


def render_max_tokens(rendered: RenderedRequest, request: Request, quirks: Quirks) -> None:
    rendered.body.setdefault("generationConfig", {})["maxOutputTokens"] = request.max_tokens


def inline_system_text(request: Request) -> list[Text]:
    """Return the text of system messages, because Gemini accepts such text only in the system instruction."""
    messages = [message for message in request.messages if message.role == "system"]
    return [part for message in messages for part in message.parts if isinstance(part, Text)]


def dropped_settings(request: Request) -> list[str]:
    """Return the neutral names of the settings that Gemini does not support."""
    parts = [part for message in request.messages for part in message.parts]
    facts = {
        "parallel_tool_calls": request.parallel_tool_calls is False,
        "user": request.user is not None,
        "strict": any(isinstance(tool, Tool) and tool.strict for tool in request.tools),
        "tool_choice": request.tool_choice is not None and bool(request.tool_choice.server_kinds),
        "cache": has_cache_control(request),
        "filename": any(isinstance(part, File) and part.name for part in parts),
        "detail": any(isinstance(part, Image) and part.detail not in (None, "auto") for part in parts),
    }
    return [name for name, is_dropped in facts.items() if is_dropped]


def render_settings(request: Request) -> dict[str, Any]:
    """Render the generationConfig; empty if nothing is set."""
    stop = [text for text in request.stop if text]
    settings: dict[str, Any] = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": stop or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "candidateCount": request.n if request.n > 1 else None,
        "responseLogprobs": True if request.logprobs is not None else None,
        "logprobs": request.logprobs or None,
        "thinkingConfig": request.reasoning and render_reasoning(request.reasoning, request.model),
    }
    config = {name: value for name, value in settings.items() if value is not None} | render_response_format(
        request.response_format
    )
    return {"generationConfig": config} if config else {}


def render_response_format(response_format: ResponseFormat | None) -> dict[str, Any]:
    if response_format is None:
        return {}
    return {"responseMimeType": JSON_TYPE} | (
        {"responseJsonSchema": response_format.schema} if response_format.schema else {}
    )

"""Requests, parsed and rendered (platform.openai.com/docs/api-reference/chat/create)."""

import re
from typing import Any

from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import as_str, convert_json, encode
from proxy.formats.neutral import Request, ResponseFormat, Text, UnsupportedFeature
from proxy.formats.openai_chat.capabilities import (
    CACHE_CONTROL_MODEL,
    is_google_model,
    is_openai_model,
    max_tokens_field,
)
from proxy.formats.openai_chat.messages import parse_messages, render_messages
from proxy.formats.openai_chat.reasoning import parse_reasoning, render_reasoning, with_signed_call
from proxy.formats.openai_chat.tools import parse_tool_choice, parse_tools, render_tools
from proxy.formats.openai_chat.wire import WireRequest
from proxy.formats.quirks import Quirks, adapt_to_quirks, has_cache_control
from proxy.formats.reasoning import is_gemini_3

INVALID_NAME_CHARACTER = re.compile(r"[^a-zA-Z0-9_-]")


# Reading ------------------------------------------------------------------------------------------


def parse_request(fields: dict[str, Any], model: str = "", stream: bool = False) -> Request:
    """Return the neutral request. Raises InvalidRequest.

    In this format, the model and `stream` are fields of the body.
    """
    wire = convert_json(fields, WireRequest)
    extras = {
        name: value
        for name, value in fields.items()
        if name not in WireRequest.__struct_fields__ and value is not None
    }
    system, messages = parse_messages(wire.messages)
    response_format = parse_response_format(wire.response_format)
    if wire.response_format and response_format is None and wire.response_format.get("type") != "text":
        extras["response_format"] = wire.response_format
    if any(message.name and message.role not in ("tool", "function") for message in wire.messages):
        extras["messages.name"] = True
    choice = wire.function_call if wire.tool_choice is None else wire.tool_choice
    return Request(
        model=wire.model,
        messages=messages,
        system=system,
        tools=parse_tools(wire.tools or [], wire.functions or [], choice, wire.web_search_options),
        tool_choice=parse_tool_choice(choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        max_tokens=wire.max_completion_tokens or wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        stop=(wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ()),
        seed=wire.seed,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        n=wire.n or 1,
        response_format=response_format,
        reasoning=parse_reasoning(wire.reasoning or wire.thinking, wire.reasoning_effort),
        logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
        user=wire.user,
        stream=bool(wire.stream),
        wants_usage=not wire.stream or bool(wire.stream_options and wire.stream_options.include_usage),
        unmapped_settings=extras,
    )


def parse_response_format(wire: dict[str, Any] | None) -> ResponseFormat | None:
    match wire:
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **rest}}:
            strict = rest.get("strict")
            return ResponseFormat(
                schema=schema,
                name=as_str(rest.get("name")) or "answer",
                description=as_str(rest.get("description")) or None,
                strict=strict if isinstance(strict, bool) else None,
            )
        case {"type": "json_object", "schema": dict(schema)}:
            return ResponseFormat(schema=schema)  # The older form of Together and Fireworks.
        case {"type": "json_object" | "json_schema"}:
            return ResponseFormat()
        case _:
            return None


# Writing ------------------------------------------------------------------------------------------


def render_request(request: Request, quirks: Quirks) -> RenderedRequest:
    """Return the request for a server. Raises UnsupportedFeature."""
    request = adapt_to_quirks(request, quirks)
    settings = BodyBuilder(request, quirks)
    rejected = settings.unsupported
    cached = bool(CACHE_CONTROL_MODEL.search(request.model)) and "cache" not in rejected
    custom = is_openai_model(request.model) and "custom_tools" not in rejected
    messages = render_messages(
        (*request.system, *schema_instruction(request.response_format, quirks)),
        request.messages,
        supports_custom_tools=custom,
        supports_cache_control=cached,
        keeps_call_signatures=is_google_model(request.model),
        call_id_length=quirks.tool_call_id_length,
    )
    if is_gemini_3(request.model):
        messages = list(map(with_signed_call, messages))
    if not messages:
        raise UnsupportedFeature(
            "The conversation contains only parts that this model cannot read.", "messages"
        )
    settings.body |= {"model": request.model, "messages": messages}
    if request.stream:
        settings.body["stream"] = True
        if "wants_usage" not in rejected:
            settings.body["stream_options"] = {"include_usage": True}
    settings.render_limits()
    settings.render_sampling()
    settings.render_tools(custom=custom, cached=cached)
    settings.render_response_format()
    if has_cache_control(request) and not cached:
        settings.dropped.append("cache")
    return RenderedRequest(settings.body, [*settings.dropped, *request.unmapped_settings])


def render_max_tokens(rendered: RenderedRequest, request: Request, quirks: Quirks) -> None:
    rendered.body[max_tokens_field(request.model, quirks)] = request.max_tokens


def schema_instruction(response_format: ResponseFormat | None, quirks: Quirks) -> list[Text]:
    """Return an instruction with the schema, for servers that do not support JSON Schema."""
    if quirks.supports_json_schema or response_format is None:
        return []
    schema = (
        f" It must match this JSON Schema: {encode(response_format.schema).decode()}"
        if response_format.schema
        else ""
    )
    return [Text(text=f"Answer with one JSON object and nothing else.{schema}")]


class BodyBuilder:
    """Builds a body. Settings that the server or the model does not support are dropped and reported."""

    def __init__(self, request: Request, quirks: Quirks) -> None:
        self.request, self.quirks, self.unsupported = request, quirks, quirks.unsupported_for(request.model)
        self.body: dict[str, Any] = {}
        self.dropped: list[str] = []

    def set_field(self, name: str, value: Any, field: str = "", *, unsupported: bool = False) -> None:
        """Set a field unless it is unsupported.

        `name` is the setting's name in `Request`. `field` is the name in the body, if it differs.
        """
        if value is None:
            return
        if unsupported or name in self.unsupported:
            self.dropped.append(name)
        else:
            self.body[field or self.quirks.renamed_settings.get(name, name)] = value

    def render_limits(self) -> None:
        request = self.request
        self.set_field("max_tokens", request.max_tokens, max_tokens_field(request.model, self.quirks))
        self.set_field("stop", list(request.stop) or None)
        self.set_field("n", request.n if request.n > 1 else None)

    def render_sampling(self) -> None:
        request = self.request
        self.set_field("reasoning", render_reasoning(request.reasoning), "reasoning_effort")
        self.set_field("temperature", request.temperature)
        self.set_field("top_p", request.top_p)
        self.set_field("top_k", request.top_k, unsupported="top_k" not in self.quirks.extra_settings)
        self.set_field("seed", request.seed)
        self.set_field("presence_penalty", request.presence_penalty)
        self.set_field("frequency_penalty", request.frequency_penalty)
        self.set_field("logprobs", None if request.logprobs is None else True)
        if "logprobs" in self.body and request.logprobs:
            self.body["top_logprobs"] = request.logprobs
        self.set_field("user", request.user)

    def render_tools(self, *, custom: bool, cached: bool) -> None:
        request = self.request
        if not request.tools:
            return
        fields = render_tools(request, supports_custom_tools=custom, supports_cache_control=cached)
        for name, value in fields.items():
            self.set_field(name, value)
        if "tools" in fields:
            self.set_field("parallel_tool_calls", request.parallel_tool_calls)

    def render_response_format(self) -> None:
        wanted = self.request.response_format
        if wanted is None:
            return
        if not self.quirks.supports_json_schema:
            self.set_field("response_format", {"type": "json_object"})
            if wanted.schema is not None:
                self.dropped.append("response_format")
            return
        if wanted.schema is None and "json" in repr(self.body["messages"]).lower():
            self.set_field("response_format", {"type": "json_object"})
            return
        # OpenAI rejects json_object if no message contains the word JSON. A schema for any object has the
        # same effect.
        schema: dict[str, Any] = {
            "name": INVALID_NAME_CHARACTER.sub("_", wanted.name)[:64] or "answer",
            "schema": wanted.schema or {"type": "object"},
        }
        if wanted.description:
            schema["description"] = wanted.description
        if wanted.strict:
            schema["strict"] = True
        self.set_field("response_format", {"type": "json_schema", "json_schema": schema})


def request_path(_model: str, _stream: bool) -> str:
    return "/chat/completions"

"""Parses rendered requests of each wire format for the checks."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class WireTool:
    """A function of the client. `schema` is None if the request does not have one."""

    name: str
    schema: Any = None
    description: str = ""
    is_strict: bool = False


@dataclass
class WireMessage:
    """A message, or an item of the Responses API. `fields` are all names of fields in it and its calls."""

    role: str
    fields: set[str] = field(default_factory=set)
    call_ids: list[str] = field(default_factory=list)
    call_names: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_empty: bool = False


@dataclass
class WireRequest:
    """A request of any format. `settings` are named as in the neutral request."""

    settings: Json = field(default_factory=dict)
    tools: list[WireTool] = field(default_factory=list)
    is_tools_empty: bool = False
    choice: Any = None
    is_forced: bool = False
    has_choice: bool = False
    response_schema: Any = None
    has_response_format: bool = False
    is_json_mode: bool = False
    is_response_strict: bool = False
    is_stream: bool = False
    effort: str | None = None
    budget: int | None = None
    max_tokens: int | None = None
    users: list[str] = field(default_factory=list)
    metadata: Json = field(default_factory=dict)
    stop: list[str] = field(default_factory=list)
    messages: list[WireMessage] = field(default_factory=list)
    media: list[tuple[str, str]] = field(default_factory=list)
    """Media type and base64 of each image and file."""
    urls: list[str] = field(default_factory=list)
    body: Json = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [tool.name for tool in self.tools]


def objects_in(value: Any) -> Iterator[Json]:
    """Yield all objects in a JSON value."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from objects_in(item)


def texts_in(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if isinstance(part, dict) and "text" in part]


def given(body: Json, names: dict[str, str]) -> Json:
    """Return the settings in a body, by their neutral names."""
    return {name: body[wire] for wire, name in names.items() if body.get(wire) is not None}


# OpenAI chat completions --------------------------------------------------------------------------

CHAT_SETTINGS = {
    **{name: name for name in ("temperature", "top_p", "top_k", "n", "seed")},
    **{name: name for name in ("presence_penalty", "frequency_penalty")},
    "random_seed": "seed",
}


def read_chat(body: Json) -> WireRequest:
    format = body.get("response_format") or {}
    schema = format.get("json_schema") or {}
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    settings = given(body, CHAT_SETTINGS)
    if body.get("logprobs"):
        settings["logprobs"] = body.get("top_logprobs", 0)
    return WireRequest(
        settings=settings | {name: True for name in ("parallel_tool_calls",) if name in body},
        tools=[read_chat_tool(tool) for tool in tools if tool.get("type") in ("function", "custom")],
        is_tools_empty=body.get("tools") == [],
        has_choice=choice is not None,
        is_forced=choice == "required" or isinstance(choice, dict),
        response_schema=schema.get("schema"),
        has_response_format=bool(format),
        is_json_mode=format.get("type") == "json_object",
        is_response_strict=bool(schema.get("strict")),
        is_stream=bool(body.get("stream")),
        effort=body.get("reasoning_effort"),
        max_tokens=body.get("max_completion_tokens") or body.get("max_tokens"),
        users=[body[name] for name in ("user", "safety_identifier") if body.get(name)],
        metadata=body.get("metadata") or {},
        stop=[body["stop"]] if isinstance(body.get("stop"), str) else body.get("stop") or [],
        messages=[read_chat_message(message) for message in body.get("messages", [])],
        urls=[part["image_url"]["url"] for part in objects_in(body.get("messages")) if has_chat_image(part)]
        + [part["file_data"] for part in objects_in(body.get("messages")) if "file_data" in part],
        body=body,
    )


def has_chat_image(part: Json) -> bool:
    return isinstance(part.get("image_url"), dict)


def read_chat_tool(tool: Json) -> WireTool:
    function = tool[tool["type"]]
    return WireTool(
        function["name"],
        function.get("parameters"),
        function.get("description", ""),
        bool(function.get("strict")),
    )


def read_chat_message(message: Json) -> WireMessage:
    calls = message.get("tool_calls") or []
    ids = [call["id"] for call in calls] + ([message["tool_call_id"]] if "tool_call_id" in message else [])
    parts = message["content"] if isinstance(message.get("content"), list) else []
    return WireMessage(
        message["role"],
        fields={name for item in (message, *calls, *parts) for name in item},
        call_ids=ids,
        call_names=[(call.get("function") or call.get("custom"))["name"] for call in calls],
        texts=texts_in(message.get("content")),
        is_empty=not message.get("content") and not calls and not {"refusal", "audio"} & set(message),
    )


# OpenAI Responses ---------------------------------------------------------------------------------


def read_responses(body: Json) -> WireRequest:
    format = (body.get("text") or {}).get("format") or {}
    choice, items = body.get("tool_choice"), body.get("input") or []
    settings = given(body, {"temperature": "temperature", "top_p": "top_p", "top_logprobs": "logprobs"})
    return WireRequest(
        settings=settings | {name: True for name in ("parallel_tool_calls",) if name in body},
        tools=[
            WireTool(
                tool["name"], tool.get("parameters"), tool.get("description") or "", bool(tool.get("strict"))
            )
            for tool in body.get("tools") or []
            if tool.get("type") in ("function", "custom")
        ],
        is_tools_empty=body.get("tools") == [],
        has_choice=choice is not None,
        is_forced=choice == "required" or isinstance(choice, dict),
        response_schema=format.get("schema"),
        has_response_format=bool(format),
        is_json_mode=format.get("type") == "json_object",
        is_response_strict=bool(format.get("strict")),
        is_stream=bool(body.get("stream")),
        effort=(body.get("reasoning") or {}).get("effort"),
        max_tokens=body.get("max_output_tokens"),
        users=[body[name] for name in ("user", "safety_identifier") if body.get(name)],
        metadata=body.get("metadata") or {},
        messages=[read_item(item) for item in items if isinstance(item, dict)],
        urls=[
            part[name]
            for part in objects_in(items)
            for name in ("image_url", "file_data")
            if isinstance(part.get(name), str)
        ],
        body=body,
    )


def read_item(item: Json) -> WireMessage:
    kind = item.get("type", "message")
    role = item.get("role", "tool" if kind.endswith("_output") else "assistant")
    return WireMessage(
        role,
        fields=set(item),
        call_ids=[item["call_id"]] if "call_id" in item else [],
        call_names=[item["name"]] if kind in ("function_call", "custom_tool_call") else [],
        texts=texts_in(item.get("content")),
        is_empty=kind == "message" and not item.get("content"),
    )


# Anthropic ----------------------------------------------------------------------------------------


def read_anthropic(body: Json) -> WireRequest:
    thinking, config = body.get("thinking") or {}, body.get("output_config") or {}
    format = config.get("format") or {}
    choice = body.get("tool_choice") or {}
    user = (body.get("metadata") or {}).get("user_id")
    sources = [
        item["source"] for item in objects_in(body.get("messages")) if isinstance(item.get("source"), dict)
    ]
    return WireRequest(
        settings=given(body, {name: name for name in ("temperature", "top_p", "top_k")}),
        tools=[
            WireTool(
                tool["name"],
                tool.get("input_schema"),
                tool.get("description") or "",
                bool(tool.get("strict")),
            )
            for tool in body.get("tools") or []
            if tool.get("type") in (None, "custom")
        ],
        is_tools_empty=body.get("tools") == [],
        has_choice=bool(choice),
        is_forced=choice.get("type") in ("any", "tool"),
        response_schema=format.get("schema"),
        has_response_format=bool(format),
        is_stream=bool(body.get("stream")),
        effort=config.get("effort"),
        budget=thinking.get("budget_tokens"),
        max_tokens=body.get("max_tokens"),
        users=[user] if user else [],
        stop=body.get("stop_sequences") or [],
        messages=[read_anthropic_message(message) for message in body.get("messages", [])],
        media=[
            (source["media_type"], source["data"]) for source in sources if source.get("type") == "base64"
        ],
        body=body,
    )


def read_anthropic_message(message: Json) -> WireMessage:
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    results = [block for block in blocks if block.get("type") == "tool_result"]
    texts = [block["text"] for block in objects_in(blocks) if isinstance(block.get("text"), str)]
    return WireMessage(
        message["role"],
        fields=set(message),
        call_ids=[call["id"] for call in calls] + [result["tool_use_id"] for result in results],
        call_names=[call["name"] for call in calls],
        texts=texts,
        is_empty=not content,
    )


# Gemini -------------------------------------------------------------------------------------------

GEMINI_SETTINGS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "candidateCount": "n",
    "logprobs": "logprobs",
}


def read_gemini(body: Json) -> WireRequest:
    config = body.get("generationConfig") or {}
    thinking = config.get("thinkingConfig") or {}
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    declared = [f for tool in body.get("tools") or [] for f in tool.get("functionDeclarations") or []]
    settings = given(config, GEMINI_SETTINGS)
    if config.get("responseLogprobs"):
        settings["logprobs"] = config.get("logprobs", 0)
    media = [item["inlineData"] for item in objects_in(body.get("contents")) if "inlineData" in item]
    return WireRequest(
        settings=settings,
        tools=[
            WireTool(tool["name"], tool.get("parametersJsonSchema"), tool.get("description") or "")
            for tool in declared
        ],
        is_tools_empty=body.get("tools") == [],
        has_choice=bool(calling),
        is_forced=calling.get("mode") == "ANY",
        response_schema=config.get("responseJsonSchema") or config.get("responseSchema"),
        has_response_format=config.get("responseMimeType") == "application/json",
        effort=(thinking.get("thinkingLevel") or "").lower() or None,
        budget=thinking.get("thinkingBudget"),
        max_tokens=config.get("maxOutputTokens"),
        stop=config.get("stopSequences") or [],
        messages=[read_content(content) for content in body.get("contents", [])],
        media=[(blob["mimeType"], blob["data"]) for blob in media],
        body=body,
    )


def read_content(content: Json) -> WireMessage:
    parts = content.get("parts", [])
    calls = [part["functionCall"] for part in parts if "functionCall" in part]
    results = [part["functionResponse"] for part in parts if "functionResponse" in part]
    return WireMessage(
        {"model": "assistant"}.get(content.get("role", "user"), "user"),
        fields=set(content),
        call_names=[call["name"] for call in (*calls, *results)],
        texts=[part["text"] for part in parts if "text" in part],
        is_empty=not parts,
    )


READERS = {
    "openai_chat": read_chat,
    "openai_responses": read_responses,
    "anthropic": read_anthropic,
    "gemini": read_gemini,
}

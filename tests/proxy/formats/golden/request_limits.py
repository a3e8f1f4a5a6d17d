"""Requests that the client's vendor accepts and others reject (`docs/vendor-constraints.md`)."""

import json
from typing import Any

from tests.proxy.formats.golden.builders import (
    PNG_PIXEL,
    USER,
    Bodies,
    Body,
    anthropic_request,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)

LONG_USER = "user_" + "0123456789abcdef" * 11
LONG_NAME = "mcp__ticket_system__list_all_pipeline_jobs_of_a_merge_request_with_logs"
DOTTED_NAME = "tickets.list:all"
OPTIONAL_SCHEMA: Body = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
    "required": ["a"],
    "additionalProperties": False,
}
ALTERNATIVES: Body = {
    "type": "object",
    "properties": {"route": {"type": "string"}, "file": {"type": "string"}},
    "anyOf": [{"required": ["route"]}, {"required": ["file"]}],
}
ODD_KEYS: Body = {
    "type": "object",
    "properties": {"filter[id]": {"type": "string"}, "$top": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["filter[id]"],
}
BARE_CONTAINERS: Body = {
    "type": "object",
    "properties": {
        "options": {"type": "object"},
        "tags": {"type": "array"},
        "either": {"type": ["array", "null"]},
    },
}
REFERENCES: Body = {
    "type": "object",
    "properties": {"color": {"$ref": "#/$defs/Color", "description": "The color"}},
    "$defs": {"Color": {"type": "string", "enum": ["red", "blue"]}},
}


def tool_bodies(*tools: tuple[str, Any], strict: bool = False, **fields: Any) -> Bodies:
    """Return a request with these tools, by name and schema, in each format."""
    given = {"strict": True} if strict else {}
    functions = [
        {"name": name, **({} if schema is None else {"parameters": schema})} for name, schema in tools
    ]
    return {
        "openai_chat": openai_chat_request(
            tools=[{"type": "function", "function": function | given} for function in functions], **fields
        ),
        "openai_responses": openai_responses_request(
            tools=[{"type": "function", "strict": strict, **function} for function in functions], **fields
        ),
        "anthropic": anthropic_request(
            tools=[
                {"name": name, "input_schema": schema or {"type": "object"}, **given}
                for name, schema in tools
            ]
        ),
        "gemini": gemini_request(
            tools=[
                {
                    "functionDeclarations": [
                        {"name": name, **({} if schema is None else {"parametersJsonSchema": schema})}
                        for name, schema in tools
                    ]
                }
            ]
        ),
    }


def history_bodies(name: str, arguments: str, schema: Body) -> Bodies:
    """Return a request whose history has a call of a tool and its result."""
    values = json.loads(arguments)
    return {
        "openai_chat": openai_chat_request(
            USER,
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "done"},
            tools=[{"type": "function", "function": {"name": name, "parameters": schema}}],
            tool_choice={"type": "function", "function": {"name": name}},
        ),
        "openai_responses": openai_responses_request(
            USER,
            {"type": "function_call", "call_id": "call_1", "name": name, "arguments": arguments},
            {"type": "function_call_output", "call_id": "call_1", "output": "done"},
            tools=[{"type": "function", "name": name, "parameters": schema, "strict": False}],
            tool_choice={"type": "function", "name": name},
        ),
        "anthropic": anthropic_request(
            USER,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": name, "input": values}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "done"}],
            },
            tools=[{"name": name, "input_schema": schema}],
            tool_choice={"type": "tool", "name": name},
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}),
            turn("model", {"functionCall": {"name": name, "args": values}}),
            turn("user", {"functionResponse": {"name": name, "response": {"output": "done"}}}),
            tools=[{"functionDeclarations": [{"name": name, "parametersJsonSchema": schema}]}],
            toolConfig={"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": [name]}},
        ),
    }


def image_bodies(media_type: str, data: str) -> Bodies:
    url = f"data:{media_type};base64,{data}"
    return {
        "openai_chat": openai_chat_request(user({"type": "image_url", "image_url": {"url": url}})),
        "openai_responses": openai_responses_request(user({"type": "input_image", "image_url": url})),
        "anthropic": anthropic_request(
            user({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}})
        ),
        "gemini": gemini_request(turn("user", {"inlineData": {"mimeType": media_type, "data": data}})),
    }


def everything(**config: Any) -> Bodies:
    """Return a request with settings of Gemini's generationConfig, in each format that has them."""
    return {
        "openai_chat": openai_chat_request(
            temperature=1.9,
            top_p=0.9,
            stop=["a", "b", "c", "d"],
            presence_penalty=1,
            frequency_penalty=-2,
            logprobs=True,
            top_logprobs=20,
            n=3,
            seed=2**40,
        ),
        "openai_responses": openai_responses_request(
            temperature=1.9, top_p=0.9, top_logprobs=20, include=["message.output_text.logprobs"]
        ),
        "anthropic": anthropic_request(
            temperature=1, top_p=0.9, top_k=0, stop_sequences=list("abcdefghijklmnopqr")
        ),
        "gemini": gemini_request(config=config),
    }


GEMINI_CONFIG: Body = {
    "temperature": 2,
    "topP": 0.9,
    "topK": 64,
    "stopSequences": list("abcde"),
    "presencePenalty": 1.5,
    "frequencyPenalty": -2,
    "responseLogprobs": True,
    "logprobs": 20,
    "candidateCount": 8,
    "seed": -5,
}
LIMITS: dict[str, Bodies] = {
    "long user": {
        "openai_chat": openai_chat_request(user=LONG_USER),
        "openai_responses": openai_responses_request(user=LONG_USER),
        "anthropic": anthropic_request(metadata={"user_id": LONG_USER}),
        "gemini": None,
    },
    "settings at their limits": everything(**GEMINI_CONFIG),
    "huge output limit": {
        "openai_chat": openai_chat_request(max_tokens=2_000_000),
        "openai_responses": openai_responses_request(max_output_tokens=2_000_000),
        "anthropic": anthropic_request(max_tokens=2_000_000),
        "gemini": gemini_request(config={"maxOutputTokens": 2_000_000}),
    },
    "tiny output limit": {
        "openai_chat": openai_chat_request(max_tokens=1),
        "openai_responses": openai_responses_request(max_output_tokens=1),
        "anthropic": anthropic_request(max_tokens=1),
        "gemini": gemini_request(config={"maxOutputTokens": 1}),
    },
    "long name of a tool": history_bodies(LONG_NAME, "{}", {"type": "object", "properties": {}}),
    "dotted name of a tool": history_bodies(DOTTED_NAME, "{}", {"type": "object", "properties": {}}),
    "odd names of arguments": history_bodies("search", '{"filter[id]":"7"}', ODD_KEYS),
    "repeated tools": tool_bodies(("a", OPTIONAL_SCHEMA), ("b", OPTIONAL_SCHEMA), ("a", ALTERNATIVES)),
    "tool without a schema": tool_bodies(("now", None)),
    "object and array schemas without content": tool_bodies(("f", BARE_CONTAINERS)),
    "alternatives at the top of a schema": tool_bodies(("f", ALTERNATIVES)),
    "arguments that are not an object": tool_bodies(("f", {"type": "array", "items": {"type": "string"}})),
    "references in a schema": tool_bodies(("f", REFERENCES)),
    "strict tool with an optional property": tool_bodies(("f", OPTIONAL_SCHEMA), strict=True),
    "response schema and tools": {
        "openai_chat": openai_chat_request(
            tools=[{"type": "function", "function": {"name": "f", "parameters": OPTIONAL_SCHEMA}}],
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": OPTIONAL_SCHEMA},
            },
        ),
        "openai_responses": openai_responses_request(
            tools=[{"type": "function", "name": "f", "parameters": OPTIONAL_SCHEMA, "strict": False}],
            text={
                "format": {"type": "json_schema", "name": "answer", "strict": True, "schema": OPTIONAL_SCHEMA}
            },
        ),
        "anthropic": anthropic_request(
            tools=[{"name": "f", "input_schema": OPTIONAL_SCHEMA}],
            output_config={"format": {"type": "json_schema", "schema": OPTIONAL_SCHEMA}},
        ),
        "gemini": gemini_request(
            tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": OPTIONAL_SCHEMA}]}],
            config={"responseMimeType": "application/json", "responseJsonSchema": OPTIONAL_SCHEMA},
        ),
    },
    "response that is a list": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_request(
            config={
                "responseMimeType": "application/json",
                "responseSchema": {"type": "ARRAY", "items": {"type": "STRING"}},
            }
        ),
    },
    "misnamed image": image_bodies("image/jpg", PNG_PIXEL),
    "percent encoded data": {
        "openai_chat": openai_chat_request(
            user({"type": "image_url", "image_url": {"url": "data:image/png,%89PNG%0D%0A%1A%0A"}})
        ),
        "openai_responses": openai_responses_request(
            user({"type": "input_image", "image_url": "data:image/png,%89PNG%0D%0A%1A%0A"})
        ),
        "anthropic": None,
        "gemini": None,
    },
    "answer to continue": {
        "openai_chat": openai_chat_request(USER, {"role": "assistant", "content": "Once upon"}),
        "openai_responses": openai_responses_request(USER, {"role": "assistant", "content": "Once upon"}),
        "anthropic": anthropic_request(USER, {"role": "assistant", "content": "Once upon"}),
        "gemini": gemini_request(turn("user", {"text": "Hi"}), turn("model", {"text": "Once upon"})),
    },
    "result and a question": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": anthropic_request(
            USER,
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}],
            },
            user(
                {"type": "tool_result", "tool_use_id": "call_1", "content": "done"},
                {"type": "text", "text": "And then?"},
            ),
            tools=[{"name": "f", "input_schema": {"type": "object"}}],
        ),
        "gemini": None,
    },
}

"""Builders of complete bodies in each format, around the part that a scenario tests."""

from typing import Any

FORMATS = ("openai_chat", "openai_responses", "anthropic", "gemini")
PNG_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF_DOCUMENT = "JVBERi0xLjEKMSAwIG9iago8PC9UeXBlL0NhdGFsb2c+PgplbmRvYmoKJSVFT0YK"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
USER = {"role": "user", "content": "Hi"}
GEMINI_USER = {"role": "user", "parts": [{"text": "Hi"}]}

Body = dict[str, Any]
Bodies = dict[str, Body | None]
"""A scenario: one body for each format."""


# Requests -----------------------------------------------------------------------------------------


def openai_chat_request(*messages: Body, **fields: Any) -> Body:
    return {"model": "m", "messages": list(messages or (USER,)), "max_tokens": 100, **fields}


def openai_responses_request(*items: Body, **fields: Any) -> Body:
    return {"model": "m", "input": list(items or (USER,)), "max_output_tokens": 100, **fields}


def anthropic_request(*messages: Body, **fields: Any) -> Body:
    return {"model": "m", "max_tokens": 100, "messages": list(messages or (USER,)), **fields}


def gemini_request(*contents: Body, config: Body | None = None, **fields: Any) -> Body:
    return {
        "contents": list(contents or (GEMINI_USER,)),
        "generationConfig": {"maxOutputTokens": 100, **(config or {})},
        **fields,
    }


def user(*parts: Body) -> Body:
    return {"role": "user", "content": list(parts)}


def assistant(*parts: Body) -> Body:
    return {"role": "assistant", "content": list(parts)}


def turn(role: str, *parts: Body) -> Body:
    """Return a turn in Gemini's format."""
    return {"role": role, "parts": list(parts)}


def function(name: str = "get_weather", **more: Any) -> Body:
    """Return the declaration of a function. Each format has another field for the schema."""
    return {"name": name, "description": "Weather of a city", **more}


CHAT_TOOL: Body = {"type": "function", "function": function(parameters=SCHEMA)}
RESPONSES_TOOL: Body = {"type": "function", **function(parameters=SCHEMA, strict=False)}
ANTHROPIC_TOOL: Body = function(input_schema=SCHEMA)
GEMINI_TOOL: Body = {"functionDeclarations": [function(parametersJsonSchema=SCHEMA)]}


# Answers ------------------------------------------------------------------------------------------


def chat_response(message: Body, finish: str = "stop", **choice: Any) -> Body:
    return chat_responses(
        {
            "index": 0,
            "message": {"role": "assistant", "content": None, **message},
            "finish_reason": finish,
            **choice,
        }
    )


def chat_responses(*choices: Body) -> Body:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 5},
    }
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m-1",
        "choices": list(choices),
        "usage": usage,
    }


def responses_response(*output: Body, status: str = "completed", **fields: Any) -> Body:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 40},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 5},
        "total_tokens": 120,
    }
    known = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m-1",
        "status": status,
        "error": None,
    }
    return {**known, "incomplete_details": None, "output": list(output), "usage": usage, **fields}


def message_item(*content: Body, status: str = "completed") -> Body:
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": list(content)}


def output_text(text: str, **more: Any) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **more}


def anthropic_response(
    *content: Body, stop: str = "end_turn", sequence: str | None = None, **usage: Any
) -> Body:
    counts = {
        "input_tokens": 60,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 40,
        "output_tokens": 20,
        **usage,
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": list(content)}
    return {**head, "stop_reason": stop, "stop_sequence": sequence, "usage": counts}


def gemini_response(*parts: Body, finish: str = "STOP", **candidate: Any) -> Body:
    content = {"role": "model", "parts": list(parts)} if parts else {"role": "model"}
    return gemini_responses({"content": content, "finishReason": finish, "index": 0, **candidate})


def gemini_responses(*candidates: Body, **fields: Any) -> Body:
    usage = {
        "promptTokenCount": 100,
        "cachedContentTokenCount": 40,
        "candidatesTokenCount": 15,
        "thoughtsTokenCount": 5,
        "totalTokenCount": 120,
    }
    given = {"candidates": list(candidates)} if candidates else {}
    return {**given, "usageMetadata": usage, "modelVersion": "m-1", "responseId": "r1", **fields}

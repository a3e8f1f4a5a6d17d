"""Responses with tool calls and thinking."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    Bodies,
    Body,
    anthropic_response,
    chat_response,
    gemini_response,
    message_item,
    output_text,
    responses_response,
)
from tests.proxy.formats.golden.request_tools import anthropic_call, chat_call, gemini_call, responses_call

TRUNCATED_ARGUMENTS = {"name": "get_weather", "arguments": '{"city":"Pa'}
PATCH = '*** Begin\n+"grüße" \\ 世界'


def item(call: Body, number: int = 1) -> Body:
    return {"id": f"fc_{number}", "status": "completed", **call}


def calls(first: str, second: str) -> Bodies:
    """Return a text and two calls with these ids."""
    both = [chat_call(first, "Paris"), chat_call(second, "Zürich")]
    return {
        "openai_chat": chat_response({"content": "Both:", "tool_calls": both}, "tool_calls"),
        "openai_responses": responses_response(
            message_item(output_text("Both:")),
            item(responses_call(first, "Paris")),
            item(responses_call(second, "Zürich"), 2),
        ),
        "anthropic": anthropic_response(
            {"type": "text", "text": "Both:"},
            anthropic_call(first, "Paris"),
            anthropic_call(second, "Zürich"),
            stop="tool_use",
        ),
        "gemini": gemini_response(
            {"text": "Both:"}, gemini_call(first, "Paris"), gemini_call(second, "Zürich")
        ),
    }


def reasoning(summary: str, secret: str | None) -> Body:
    summary_parts = [{"type": "summary_text", "text": summary}] if summary else []
    return {
        "id": "rs_1",
        "type": "reasoning",
        "summary": summary_parts,
        **({"encrypted_content": secret} if secret else {}),
    }


DETAIL: dict[str, Any] = {
    "type": "reasoning.text",
    "text": "Hm.",
    "signature": "c2ln",
    "format": "anthropic-claude-v1",
    "index": 0,
}
ENCRYPTED_CONTENT: dict[str, Any] = {
    "type": "reasoning.encrypted",
    "data": "gAAA",
    "id": "rs_1",
    "format": "openai-responses-v1",
    "index": 0,
}

TOOL_CALL_RESPONSES: dict[str, Bodies] = {
    "single tool call": {
        "openai_chat": chat_response({"tool_calls": [chat_call("call_1", "Paris")]}, "tool_calls"),
        "openai_responses": responses_response(item(responses_call("call_1", "Paris"))),
        "anthropic": anthropic_response(anthropic_call("call_1", "Paris"), stop="tool_use"),
        "gemini": gemini_response(gemini_call("call_1", "Paris")),
    },
    "parallel tool calls": calls("call_1", "call_2"),
    "tool calls without ids": calls("", ""),
    "tool calls with duplicate ids": calls("call_1", "call_1"),
    "tool call without arguments": {
        "openai_chat": chat_response(
            {
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": ""}}
                ]
            },
            "tool_calls",
        ),
        "openai_responses": responses_response(
            item({"type": "function_call", "call_id": "call_1", "name": "get_time", "arguments": ""})
        ),
        "anthropic": anthropic_response(
            {"type": "tool_use", "id": "call_1", "name": "get_time", "input": {}}, stop="tool_use"
        ),
        "gemini": gemini_response({"functionCall": {"id": "call_1", "name": "get_time"}}),
    },
    "custom tool call": {
        "openai_chat": chat_response(
            {"tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": PATCH}}]},
            "tool_calls",
        ),
        "openai_responses": responses_response(
            item({"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": PATCH})
        ),
        "anthropic": anthropic_response(
            {"type": "tool_use", "id": "call_1", "name": "patch", "input": {"input": PATCH}}, stop="tool_use"
        ),
        "gemini": gemini_response(
            {"functionCall": {"id": "call_1", "name": "patch", "args": {"input": PATCH}}}
        ),
    },
    "truncated tool call": {
        "openai_chat": chat_response(
            {"tool_calls": [{"id": "call_1", "type": "function", "function": TRUNCATED_ARGUMENTS}]},
            "length",
        ),
        "openai_responses": responses_response(
            item({"type": "function_call", "call_id": "call_1", **TRUNCATED_ARGUMENTS}),
            status="incomplete",
            incomplete_details={"reason": "max_output_tokens"},
        ),
        "anthropic": None,
        "gemini": None,
    },
}

THINKING_RESPONSES: dict[str, Bodies] = {
    "thinking": {
        "openai_chat": chat_response({"reasoning_content": "Hm.", "content": "Yes."}),
        "openai_responses": responses_response(reasoning("Hm.", None), message_item(output_text("Yes."))),
        "anthropic": anthropic_response(
            {"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "Yes."}
        ),
        "gemini": gemini_response({"text": "Hm.", "thought": True}, {"text": "Yes."}),
    },
    "thinking with signature": {
        "openai_chat": chat_response({"reasoning": "Hm.", "reasoning_details": [DETAIL], "content": "Yes."}),
        "openai_responses": responses_response(reasoning("Hm.", "gAAA"), message_item(output_text("Yes."))),
        "anthropic": anthropic_response(
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": "Yes."}
        ),
        "gemini": gemini_response(
            {"text": "Hm.", "thought": True}, {"text": "Yes.", "thoughtSignature": "c2ln"}
        ),
    },
    "redacted thinking": {
        "openai_chat": chat_response({"reasoning_details": [ENCRYPTED_CONTENT], "content": "Yes."}),
        "openai_responses": responses_response(reasoning("", "gAAA"), message_item(output_text("Yes."))),
        "anthropic": anthropic_response(
            {"type": "redacted_thinking", "data": "AAAA"}, {"type": "text", "text": "Yes."}
        ),
        "gemini": gemini_response({"text": "Yes.", "thoughtSignature": "c2ln"}),
    },
    "tool call with signature": {
        "openai_chat": chat_response(
            {
                "tool_calls": [
                    {
                        **chat_call("call_1", "Paris"),
                        "extra_content": {"google": {"thought_signature": "c2ln"}},
                    }
                ]
            },
            "tool_calls",
        ),
        "openai_responses": responses_response(
            reasoning("Hm.", "gAAA"), item(responses_call("call_1", "Paris"))
        ),
        "anthropic": anthropic_response(
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"},
            anthropic_call("call_1", "Paris"),
            stop="tool_use",
        ),
        "gemini": gemini_response(
            {"text": "Hm.", "thought": True}, {**gemini_call("call_1", "Paris"), "thoughtSignature": "c2ln"}
        ),
    },
}

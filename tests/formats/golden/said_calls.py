"""Answers with calls of tools and with thoughts."""

from typing import Any

from tests.formats.golden.asked_tools import chat_call, claude_call, gemini_call, responses_call
from tests.formats.golden.words import Bodies, Body, chat_answer, claude_answer, google_answer, message_item, output_text, responses_answer

CUT = {"name": "get_weather", "arguments": '{"city":"Pa'}
PATCH = '*** Begin\n+"grüße" \\ 世界'


def item(call: Body, number: int = 1) -> Body:
    return {"id": f"fc_{number}", "status": "completed", **call}


def calls(first: str, second: str) -> Bodies:
    """Words, and two calls with these ids."""
    both = [chat_call(first, "Paris"), chat_call(second, "Zürich")]
    return {
        "openai_chat": chat_answer({"content": "Both:", "tool_calls": both}, "tool_calls"),
        "openai_responses": responses_answer(
            message_item(output_text("Both:")), item(responses_call(first, "Paris")), item(responses_call(second, "Zürich"), 2)
        ),
        "anthropic": claude_answer(
            {"type": "text", "text": "Both:"}, claude_call(first, "Paris"), claude_call(second, "Zürich"), stop="tool_use"
        ),
        "gemini": google_answer({"text": "Both:"}, gemini_call(first, "Paris"), gemini_call(second, "Zürich")),
    }


def reasoning(summary: str, secret: str | None) -> Body:
    told = [{"type": "summary_text", "text": summary}] if summary else []
    return {"id": "rs_1", "type": "reasoning", "summary": told, **({"encrypted_content": secret} if secret else {})}


DETAIL: dict[str, Any] = {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "format": "anthropic-claude-v1", "index": 0}
SECRET: dict[str, Any] = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1", "index": 0}

CALLS: dict[str, Bodies] = {
    "one call": {
        "openai_chat": chat_answer({"tool_calls": [chat_call("call_1", "Paris")]}, "tool_calls"),
        "openai_responses": responses_answer(item(responses_call("call_1", "Paris"))),
        "anthropic": claude_answer(claude_call("call_1", "Paris"), stop="tool_use"),
        "gemini": google_answer(gemini_call("call_1", "Paris")),
    },
    "two calls": calls("call_1", "call_2"),
    "calls without ids": calls("", ""),
    "calls with the same id": calls("call_1", "call_1"),
    "a call without arguments": {
        "openai_chat": chat_answer(
            {"tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "get_time", "arguments": ""}}]}, "tool_calls"
        ),
        "openai_responses": responses_answer(item({"type": "function_call", "call_id": "call_1", "name": "get_time", "arguments": ""})),
        "anthropic": claude_answer({"type": "tool_use", "id": "call_1", "name": "get_time", "input": {}}, stop="tool_use"),
        "gemini": google_answer({"functionCall": {"id": "call_1", "name": "get_time"}}),
    },
    "a call with free text": {
        "openai_chat": chat_answer(
            {"tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": PATCH}}]}, "tool_calls"
        ),
        "openai_responses": responses_answer(item({"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": PATCH})),
        "anthropic": claude_answer({"type": "tool_use", "id": "call_1", "name": "patch", "input": {"input": PATCH}}, stop="tool_use"),
        "gemini": google_answer({"functionCall": {"id": "call_1", "name": "patch", "args": {"input": PATCH}}}),
    },
    "a call that is cut off": {
        "openai_chat": chat_answer(
            {"tool_calls": [{"id": "call_1", "type": "function", "function": CUT}]},
            "length",
        ),
        "openai_responses": responses_answer(
            item({"type": "function_call", "call_id": "call_1", **CUT}),
            status="incomplete",
            incomplete_details={"reason": "max_output_tokens"},
        ),
        "anthropic": None,
        "gemini": None,
    },
}

THOUGHTS: dict[str, Bodies] = {
    "thoughts": {
        "openai_chat": chat_answer({"reasoning_content": "Hm.", "content": "Yes."}),
        "openai_responses": responses_answer(reasoning("Hm.", None), message_item(output_text("Yes."))),
        "anthropic": claude_answer({"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "text", "text": "Yes."}),
        "gemini": google_answer({"text": "Hm.", "thought": True}, {"text": "Yes."}),
    },
    "thoughts with a proof": {
        "openai_chat": chat_answer({"reasoning": "Hm.", "reasoning_details": [DETAIL], "content": "Yes."}),
        "openai_responses": responses_answer(reasoning("Hm.", "gAAA"), message_item(output_text("Yes."))),
        "anthropic": claude_answer({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, {"type": "text", "text": "Yes."}),
        "gemini": google_answer({"text": "Hm.", "thought": True}, {"text": "Yes.", "thoughtSignature": "c2ln"}),
    },
    "thoughts that only their origin reads": {
        "openai_chat": chat_answer({"reasoning_details": [SECRET], "content": "Yes."}),
        "openai_responses": responses_answer(reasoning("", "gAAA"), message_item(output_text("Yes."))),
        "anthropic": claude_answer({"type": "redacted_thinking", "data": "AAAA"}, {"type": "text", "text": "Yes."}),
        "gemini": google_answer({"text": "Yes.", "thoughtSignature": "c2ln"}),
    },
    "a call with a proof": {
        "openai_chat": chat_answer(
            {"tool_calls": [{**chat_call("call_1", "Paris"), "extra_content": {"google": {"thought_signature": "c2ln"}}}]}, "tool_calls"
        ),
        "openai_responses": responses_answer(reasoning("Hm.", "gAAA"), item(responses_call("call_1", "Paris"))),
        "anthropic": claude_answer(
            {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}, claude_call("call_1", "Paris"), stop="tool_use"
        ),
        "gemini": google_answer({"text": "Hm.", "thought": True}, {**gemini_call("call_1", "Paris"), "thoughtSignature": "c2ln"}),
    },
}

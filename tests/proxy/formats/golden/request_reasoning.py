"""Requests with thinking: settings, and signatures that return to their origin in a tool loop."""

import base64
from typing import Any

from tests.proxy.formats.golden.builders import (
    ANTHROPIC_TOOL,
    CHAT_TOOL,
    GEMINI_TOOL,
    RESPONSES_TOOL,
    USER,
    Bodies,
    Body,
    anthropic_request,
    assistant,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)
from tests.proxy.formats.golden.request_tools import (
    anthropic_call,
    chat_call,
    gemini_call,
    gemini_result,
    responses_call,
)


def tagged_signature(signature: str) -> str:
    """Return another vendor's signature as a Gemini client carries it.

    It is base64 in the alphabet of Google's SDK.
    """
    return base64.urlsafe_b64encode(signature.encode()).decode()


def chat_loop(call: Body | None = None, **thoughts: Any) -> Body:
    assistant_message = {
        "role": "assistant",
        "content": None,
        **thoughts,
        "tool_calls": [{**chat_call("call_1", "Paris"), **(call or {})}],
    }
    return openai_chat_request(
        USER,
        assistant_message,
        {"role": "tool", "tool_call_id": "call_1", "content": "Sun"},
        tools=[CHAT_TOOL],
    )


def responses_loop(*items: Body) -> Body:
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Sun"}
    return openai_responses_request(
        USER, *items, responses_call("call_1", "Paris"), result, tools=[RESPONSES_TOOL]
    )


def anthropic_loop(*blocks: Body) -> Body:
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}
    return anthropic_request(
        USER, assistant(*blocks, anthropic_call("call_1", "Paris")), user(result), tools=[ANTHROPIC_TOOL]
    )


def gemini_loop(*parts: Body, signed: str | None = None) -> Body:
    call = gemini_call("call_1", "Paris") | ({"thoughtSignature": signed} if signed else {})
    result = turn("user", gemini_result("call_1", {"result": "Sun"}))
    return gemini_request(
        turn("user", {"text": "Hi"}), turn("model", *parts, call), result, tools=[GEMINI_TOOL]
    )


def reasoning(text: str, signature: str) -> Body:
    return {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text}] if text else [],
        "encrypted_content": signature,
    }


def thought(text: str, signature: str) -> Body:
    return {"text": text, "thought": True, "thoughtSignature": tagged_signature(signature)}


ENCRYPTED = {
    "type": "reasoning.encrypted",
    "data": "gAAA",
    "id": "rs_1",
    "format": "openai-responses-v1",
    "index": 0,
}

THINKING: dict[str, Bodies] = {
    "high reasoning effort": {
        "openai_chat": openai_chat_request(reasoning_effort="high"),
        "openai_responses": openai_responses_request(
            reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"]
        ),
        "anthropic": anthropic_request(thinking={"type": "adaptive"}, output_config={"effort": "high"}),
        "gemini": gemini_request(
            config={"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}
        ),
    },
    "thinking budget": {
        "openai_chat": openai_chat_request(thinking={"type": "enabled", "budget_tokens": 2000}),
        "openai_responses": None,
        "anthropic": anthropic_request(thinking={"type": "enabled", "budget_tokens": 2000}, max_tokens=4000),
        "gemini": gemini_request(
            config={"thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": True}}
        ),
    },
    "reasoning disabled": {
        "openai_chat": openai_chat_request(reasoning_effort="none"),
        "openai_responses": openai_responses_request(reasoning={"effort": "none"}),
        "anthropic": anthropic_request(thinking={"type": "disabled"}),
        "gemini": gemini_request(config={"thinkingConfig": {"thinkingBudget": 0}}),
    },
    "tool loop with own signature": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_details=[ENCRYPTED]),
        "openai_responses": responses_loop(reasoning("Hm.", "gAAA")),
        "anthropic": anthropic_loop({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
        "gemini": gemini_loop({"text": "Hm.", "thought": True}, signed="c2ln"),
    },
    "tool loop with Anthropic signature": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="anthropic#c2ln"),
        "openai_responses": responses_loop(reasoning("Hm.", "anthropic#c2ln")),
        "anthropic": anthropic_loop({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
        "gemini": gemini_loop(thought("Hm.", "anthropic#c2ln")),
    },
    "tool loop with redacted thinking": {
        "openai_chat": chat_loop(
            reasoning_details=[{"type": "reasoning.encrypted", "data": "anthropic#AAAA"}]
        ),
        "openai_responses": responses_loop(reasoning("", "anthropic#redacted#AAAA")),
        "anthropic": anthropic_loop({"type": "redacted_thinking", "data": "AAAA"}),
        "gemini": gemini_loop(thought("", "anthropic#redacted#AAAA")),
    },
    "tool loop with Gemini call signature": {
        "openai_chat": chat_loop({"extra_content": {"google": {"thought_signature": "c2ln"}}}),
        "openai_responses": responses_loop(reasoning("", "gemini#c2ln")),
        "anthropic": anthropic_loop({"type": "thinking", "thinking": "", "signature": "gemini#c2ln"}),
        "gemini": gemini_loop(signed="c2ln"),
    },
    "tool loop with Responses encrypted reasoning": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="openai_responses#gAAA"),
        "openai_responses": responses_loop(reasoning("Hm.", "gAAA")),
        "anthropic": anthropic_loop(
            {"type": "thinking", "thinking": "Hm.", "signature": "openai_responses#gAAA"}
        ),
        "gemini": gemini_loop(thought("Hm.", "openai_responses#gAAA")),
    },
}

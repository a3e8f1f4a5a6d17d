"""Requests about thinking: how much, and proofs of it that must find their way back to who made them through a loop of tools."""

import base64
from typing import Any

from tests.formats.golden.asked_tools import chat_call, claude_call, gemini_call, gemini_result, responses_call
from tests.formats.golden.words import (
    CHAT_TOOL,
    CLAUDE_TOOL,
    GEMINI_TOOL,
    RESPONSES_TOOL,
    USER,
    Bodies,
    Body,
    assistant,
    chat,
    claude,
    google,
    responses,
    turn,
    user,
)


def sealed(proof: str) -> str:
    """How a Gemini client carries a proof of another vendor's: base64, in the alphabet that Google's SDK sends."""
    return base64.urlsafe_b64encode(proof.encode()).decode()


def chat_loop(call: Body | None = None, **thoughts: Any) -> Body:
    said = {"role": "assistant", "content": None, **thoughts, "tool_calls": [{**chat_call("call_1", "Paris"), **(call or {})}]}
    return chat(USER, said, {"role": "tool", "tool_call_id": "call_1", "content": "Sun"}, tools=[CHAT_TOOL])


def responses_loop(*items: Body) -> Body:
    result = {"type": "function_call_output", "call_id": "call_1", "output": "Sun"}
    return responses(USER, *items, responses_call("call_1", "Paris"), result, tools=[RESPONSES_TOOL])


def claude_loop(*blocks: Body) -> Body:
    result = {"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}
    return claude(USER, assistant(*blocks, claude_call("call_1", "Paris")), user(result), tools=[CLAUDE_TOOL])


def google_loop(*parts: Body, signed: str | None = None) -> Body:
    call = gemini_call("call_1", "Paris") | ({"thoughtSignature": signed} if signed else {})
    result = turn("user", gemini_result("call_1", {"result": "Sun"}))
    return google(turn("user", {"text": "Hi"}), turn("model", *parts, call), result, tools=[GEMINI_TOOL])


def reasoning(text: str, proof: str) -> Body:
    return {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}] if text else [], "encrypted_content": proof}


def thought(text: str, proof: str) -> Body:
    return {"text": text, "thought": True, "thoughtSignature": sealed(proof)}


ENCRYPTED = {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "openai-responses-v1", "index": 0}

THINKING: dict[str, Bodies] = {
    "much thinking": {
        "openai_chat": chat(reasoning_effort="high"),
        "openai_responses": responses(reasoning={"effort": "high", "summary": "auto"}, include=["reasoning.encrypted_content"]),
        "anthropic": claude(thinking={"type": "adaptive"}, output_config={"effort": "high"}),
        "gemini": google(config={"thinkingConfig": {"thinkingLevel": "HIGH", "includeThoughts": True}}),
    },
    "thinking by a budget": {
        "openai_chat": chat(thinking={"type": "enabled", "budget_tokens": 2000}),
        "openai_responses": None,
        "anthropic": claude(thinking={"type": "enabled", "budget_tokens": 2000}, max_tokens=4000),
        "gemini": google(config={"thinkingConfig": {"thinkingBudget": 2000, "includeThoughts": True}}),
    },
    "no thinking": {
        "openai_chat": chat(reasoning_effort="none"),
        "openai_responses": responses(reasoning={"effort": "none"}),
        "anthropic": claude(thinking={"type": "disabled"}),
        "gemini": google(config={"thinkingConfig": {"thinkingBudget": 0}}),
    },
    "a loop with one's own proof": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_details=[ENCRYPTED]),
        "openai_responses": responses_loop(reasoning("Hm.", "gAAA")),
        "anthropic": claude_loop({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
        "gemini": google_loop({"text": "Hm.", "thought": True}, signed="c2ln"),
    },
    "a loop with Anthropic's proof": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="anthropic#c2ln"),
        "openai_responses": responses_loop(reasoning("Hm.", "anthropic#c2ln")),
        "anthropic": claude_loop({"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}),
        "gemini": google_loop(thought("Hm.", "anthropic#c2ln")),
    },
    "a loop with thoughts that only Anthropic reads": {
        "openai_chat": chat_loop(reasoning_details=[{"type": "reasoning.encrypted", "data": "anthropic#AAAA"}]),
        "openai_responses": responses_loop(reasoning("", "anthropic#redacted#AAAA")),
        "anthropic": claude_loop({"type": "redacted_thinking", "data": "AAAA"}),
        "gemini": google_loop(thought("", "anthropic#redacted#AAAA")),
    },
    "a loop with Gemini's proof of the call": {
        "openai_chat": chat_loop({"extra_content": {"google": {"thought_signature": "c2ln"}}}),
        "openai_responses": responses_loop(reasoning("", "gemini#c2ln")),
        "anthropic": claude_loop({"type": "thinking", "thinking": "", "signature": "gemini#c2ln"}),
        "gemini": google_loop(signed="c2ln"),
    },
    "a loop with Responses' encrypted reasoning": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="openai_responses#gAAA"),
        "openai_responses": responses_loop(reasoning("Hm.", "gAAA")),
        "anthropic": claude_loop({"type": "thinking", "thinking": "Hm.", "signature": "openai_responses#gAAA"}),
        "gemini": google_loop(thought("Hm.", "openai_responses#gAAA")),
    },
}

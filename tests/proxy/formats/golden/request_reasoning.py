"""Requests with thinking: settings, and signatures that are sent back to their origin in a tool loop."""

import base64
from typing import Any

from proxy.formats.neutral import Thinking
from proxy.formats.seals import seal
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

ANTHROPIC_THINKING = Thinking(text="Hm.", signature="c2ln", origin="anthropic")
REDACTED = Thinking(redacted="AAAA", origin="anthropic")
RESPONSES_THINKING = Thinking(text="Hm.", signature="gAAA", origin="openai_responses")
CALL_SIGNATURE = Thinking(signature="c2ln", origin="gemini")
CHAT_THINKING = Thinking(text="Hm.", origin="openai_chat")


def in_url_safe_base64(signature: str) -> str:
    """Return a seal of earlier versions in the form in which Google's SDK sends it back."""
    return base64.urlsafe_b64encode(signature.encode()).decode()


def entry(sealed: str) -> Body:
    """Return an entry of `reasoning_details`."""
    return {"type": "reasoning.encrypted", "data": sealed, "index": 0}


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


def chat_assistant(**fields: Any) -> Body:
    return {"role": "assistant", **fields}


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
    return {"text": text, "thought": True, "thoughtSignature": signature}


def thinking(text: str, signature: str) -> Body:
    """Return a block of the Messages API."""
    return {"type": "thinking", "thinking": text, "signature": signature}


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
        "openai_chat": chat_loop(
            reasoning_content="Hm.", reasoning_details=[entry(seal(ANTHROPIC_THINKING))]
        ),
        "openai_responses": responses_loop(reasoning("Hm.", seal(ANTHROPIC_THINKING))),
        "anthropic": anthropic_loop(thinking("Hm.", "c2ln")),
        "gemini": gemini_loop(
            {"text": "Hm.", "thought": True},
            thought("", seal(ANTHROPIC_THINKING)),
            signed=seal(ANTHROPIC_THINKING),
        ),
    },
    "tool loop whose client left thoughts out": {
        "openai_chat": chat_loop(reasoning_details=[entry(seal(ANTHROPIC_THINKING))]),
        "openai_responses": responses_loop(reasoning("", seal(ANTHROPIC_THINKING))),
        "anthropic": None,
        "gemini": gemini_loop({"text": "Look"}, signed=seal(ANTHROPIC_THINKING)),
    },
    "tool loop with redacted thinking": {
        "openai_chat": chat_loop(reasoning_details=[entry(seal(REDACTED))]),
        "openai_responses": responses_loop(reasoning("", seal(REDACTED))),
        "anthropic": anthropic_loop({"type": "redacted_thinking", "data": "AAAA"}),
        "gemini": gemini_loop(thought("", seal(REDACTED)), signed=seal(REDACTED)),
    },
    "tool loop with Gemini call signature": {
        "openai_chat": chat_loop({"extra_content": {"google": {"thought_signature": seal(CALL_SIGNATURE)}}}),
        "openai_responses": responses_loop(reasoning("", seal(CALL_SIGNATURE))),
        "anthropic": anthropic_loop(thinking("", seal(CALL_SIGNATURE))),
        "gemini": gemini_loop(signed="c2ln"),
    },
    "tool loop with Responses encrypted reasoning": {
        "openai_chat": chat_loop(
            reasoning_content="Hm.", reasoning_details=[entry(seal(RESPONSES_THINKING))]
        ),
        "openai_responses": responses_loop(reasoning("Hm.", "gAAA")),
        "anthropic": anthropic_loop(thinking("Hm.", seal(RESPONSES_THINKING))),
        "gemini": gemini_loop(signed=seal(RESPONSES_THINKING)),
    },
    "tool loop with reasoning content": {
        "openai_chat": chat_loop(reasoning_content="Hm."),
        "openai_responses": responses_loop(reasoning("Hm.", seal(CHAT_THINKING))),
        "anthropic": anthropic_loop(thinking("Hm.", seal(Thinking(origin="openai_chat")))),
        "gemini": gemini_loop(signed=seal(CHAT_THINKING)),
    },
    "tool loop with unsigned thinking": {
        "openai_chat": None,
        "openai_responses": responses_loop(reasoning("Hm.", "")),
        "anthropic": anthropic_loop(thinking("Hm.", "")),
        "gemini": gemini_loop({"text": "Hm.", "thought": True}),
    },
    "tool loop with a seal in a seal": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="gemini#anthropic#c2ln"),
        "openai_responses": responses_loop(
            reasoning("Hm.", seal(Thinking(signature=seal(ANTHROPIC_THINKING), origin="gemini")))
        ),
        "anthropic": None,
        "gemini": gemini_loop(thought("Hm.", seal(Thinking(signature="anthropic#c2ln", origin="gemini")))),
    },
    "tool loop with seals of earlier versions": {
        "openai_chat": chat_loop(reasoning_content="Hm.", reasoning_signature="anthropic#c2ln"),
        "openai_responses": responses_loop(reasoning("Hm.", "anthropic#c2ln")),
        "anthropic": anthropic_loop(thinking("Hm.", "openai_chat#"), thinking("", "gemini#c2ln")),
        "gemini": gemini_loop(thought("Hm.", in_url_safe_base64("anthropic#c2ln"))),
    },
    "tool loop with redacted seals of earlier versions": {
        "openai_chat": chat_loop(reasoning_details=[entry("anthropic#AAAA")]),
        "openai_responses": responses_loop(reasoning("", "anthropic#redacted#AAAA")),
        "anthropic": None,
        "gemini": gemini_loop(thought("", in_url_safe_base64("anthropic#redacted#AAAA"))),
    },
    "synthetic signature of a call": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": None,
        "gemini": gemini_loop(signed="skip_thought_signature_validator"),
    },
    "turn in pieces": {
        "openai_chat": openai_chat_request(
            USER,
            chat_assistant(content="Look ", tool_calls=[chat_call("call_1", "Paris")]),
            chat_assistant(content="at it", tool_calls=[chat_call("call_2", "Rome")]),
            {"role": "tool", "tool_call_id": "call_1", "content": "Sun"},
            {"role": "tool", "tool_call_id": "call_2", "content": "Rain"},
            tools=[CHAT_TOOL],
        ),
        "openai_responses": None,
        "anthropic": anthropic_request(
            USER,
            assistant(thinking("Hm.", "c2ln"), anthropic_call("call_1", "Paris")),
            assistant(anthropic_call("call_2", "Rome")),
            user({"type": "tool_result", "tool_use_id": "call_1", "content": "Sun"}),
            user({"type": "tool_result", "tool_use_id": "call_2", "content": "Rain"}),
            tools=[ANTHROPIC_TOOL],
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}),
            turn("model", {"text": "H", "thought": True}),
            turn("model", {"text": "m.", "thought": True}),
            turn("model", thought("", seal(ANTHROPIC_THINKING))),
            turn("model", {"text": "Look"}),
            turn("model", {"text": " "}),
            turn("model", {"text": "at it"}),
            turn("model", {**gemini_call("call_1", "Paris"), "thoughtSignature": seal(ANTHROPIC_THINKING)}),
            turn("model", gemini_call("call_2", "Rome")),
            turn("user", gemini_result("call_1", {"result": "Sun"})),
            turn("user", gemini_result("call_2", {"result": "Rain"})),
            tools=[GEMINI_TOOL],
        ),
    },
}

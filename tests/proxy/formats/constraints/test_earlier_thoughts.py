"""Thinking of earlier responses, which some models require even if another vendor made it."""

from typing import Any

import pytest

from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Message, Reasoning, Request, Text, Thinking, ToolCall, ToolResult
from tests.support.adapted_requests import render_adapted

CALL = ToolCall(id="a", name="f", arguments="{}")
RESULT = Message(role="user", parts=(ToolResult(call_id="a", content=(Text(text="Sun"),)),))
SEALED = Thinking(text="Hm.", signature="gAAA", origin="openai_responses")
UNSIGNED = Thinking(text="Hm.")


def rendered(provider: str, format: Any, model: str, *parts: Any, **settings: Any) -> dict[str, Any]:
    messages = (
        Message(role="user", parts=(Text(text="Hi"),)),
        Message(role="assistant", parts=parts),
        RESULT,
    )
    request = Request(model=model, messages=messages, **settings)
    message: dict[str, Any] = render_adapted(request, Destination(provider, format, model)).body["messages"][
        1
    ]
    return message


@pytest.mark.parametrize("thinking", [SEALED, UNSIGNED])
@pytest.mark.parametrize("model", ["deepseek-reasoner", "moonshotai/Kimi-K2-Thinking", "XiaomiMiMo/MiMo-V2"])
def test_the_text_of_any_vendors_thinking_goes_back(model: str, thinking: Thinking) -> None:
    message = rendered("compatible", "openai_chat", model, thinking, CALL)
    assert message["reasoning_content"] == "Hm." and "reasoning_details" not in message


def test_a_response_without_thinking_gets_a_placeholder() -> None:
    encrypted = Thinking(signature="gAAA", origin="openai_responses")
    for parts in ((CALL,), (encrypted, CALL)):
        assert rendered("deepseek", "openai_chat", "deepseek-v4-pro", *parts)["reasoning_content"] == " "


@pytest.mark.parametrize(("parts", "text"), [((SEALED, CALL), "Hm."), ((CALL,), " ")])
def test_it_goes_back_in_blocks_of_the_messages_api(parts: tuple[Any, ...], text: str) -> None:
    block, call = rendered("deepseek", "anthropic", "deepseek-v4-pro", *parts)["content"]
    assert block == {"type": "thinking", "thinking": text, "signature": ""} and call["type"] == "tool_use"


def test_no_thinking_goes_back_if_the_request_turns_it_off() -> None:
    off = Reasoning(effort="none")
    message = rendered("deepseek", "openai_chat", "deepseek-v4-pro", SEALED, CALL, reasoning=off)
    assert "reasoning_content" not in message


@pytest.mark.parametrize(
    ("provider", "model"),
    [("compatible", "llama"), ("groq", "moonshotai/kimi-k2-instruct"), ("openai", "gpt-4o")],
)
def test_other_models_and_strict_servers_get_no_thinking_of_another_vendor(provider: str, model: str) -> None:
    assert "reasoning_content" not in rendered(provider, "openai_chat", model, SEALED, CALL)


def test_googles_chat_server_gets_signatures_of_calls_alone() -> None:
    signed = ToolCall(id="a", name="f", arguments="{}", signature="CpYB", origin="gemini")
    own = Thinking(text="Hm.", origin="openai_chat")
    message = rendered("compatible", "openai_chat", "gemini-2.5-pro", own, signed)
    assert "reasoning_content" not in message
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "CpYB"}}


@pytest.mark.parametrize(
    ("model", "signature"), [("gemini-3-pro", "skip_thought_signature_validator"), ("gemini-2.5-pro", None)]
)
def test_googles_chat_server_gets_a_signature_on_the_first_call(model: str, signature: str | None) -> None:
    second = ToolCall(id="b", name="f", arguments="{}")
    first, other = rendered("compatible", "openai_chat", model, CALL, second)["tool_calls"]
    extra = {"google": {"thought_signature": signature}} if signature else None
    assert first.get("extra_content") == extra and "extra_content" not in other

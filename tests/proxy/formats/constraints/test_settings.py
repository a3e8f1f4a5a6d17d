"""Adaptation of settings to a destination, and the names of changed settings."""

import hashlib
from typing import Any

import pytest

from proxy.formats.constraints.adaptation import has_tools_for_responses
from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.settings import EFFORTS
from proxy.formats.neutral import Reasoning, Request, Tool
from tests.proxy.formats.constraints.adaptations import OBJECT, adapted, chat, claude, gemini, responses

CLAUDE_CODE_USER = f"user_{'a' * 64}_account_{'b' * 36}_session_{'c' * 61}"
TOOL = Tool(name="f", schema=OBJECT)


@pytest.mark.parametrize(
    ("destination", "length"),
    [
        (chat("gpt-4o"), 65),
        (responses("gpt-5"), 65),
        (chat("gpt-4o", "azure"), 65),
        (chat("llama-3.3-70b-versatile", "groq"), 65),
        (chat("anthropic/claude-sonnet-4.5", "openrouter"), 129),
        (claude(), 257),
    ],
)
def test_a_long_user_is_hashed_the_same_each_time(destination: Destination, length: int) -> None:
    user = CLAUDE_CODE_USER.ljust(300, "x")[:length]
    changed = adapted(destination, user=user)
    assert (changed.request.user, changed.changes) == (
        hashlib.sha256(user.encode()).hexdigest(),
        ("user;changed=hashed",),
    )
    kept = adapted(destination, user=user[:-1])
    assert (kept.request.user, kept.changes) == (user[:-1], ())


def test_a_user_with_letters_that_deepseek_rejects_is_hashed() -> None:
    destination = Destination("deepseek", "anthropic", "deepseek-chat")
    assert adapted(destination, user="mail@example.com").changes == ("user;changed=hashed",)
    assert adapted(destination, user="user_1-a").changes == ()


@pytest.mark.parametrize(
    "model",
    ["o3", "o4-mini", "gpt-5", "gpt-5.6-sol", "gpt-6", "gpt-6-astra", "gpt-6.2-sol", "openai/gpt-6-luna"],
)
@pytest.mark.parametrize("to", [chat, responses])
def test_reasoning_models_get_no_sampling(model: str, to: Any) -> None:
    settings = {"temperature": 0.2, "top_p": 0.9, "logprobs": 3}
    changed = adapted(to(model), **settings)
    assert [getattr(changed.request, name) for name in settings] == [None, None, None]
    assert sorted(changed.changes) == ["logprobs", "temperature", "top_p"]


def test_values_that_every_model_has_are_dropped_without_a_name() -> None:
    changed = adapted(chat("gpt-6"), temperature=1.0, top_p=1)
    assert (changed.request.temperature, changed.request.top_p, changed.changes) == (None, None, ())


@pytest.mark.parametrize(
    ("destination", "reasoning"),
    [
        (chat("gpt-4o"), None),
        (chat("gpt-5-chat-latest"), None),
        (chat("gpt-5.1"), Reasoning(effort="none")),
    ],
)
def test_models_that_do_not_reason_keep_sampling(
    destination: Destination, reasoning: Reasoning | None
) -> None:
    changed = adapted(destination, temperature=0.2, reasoning=reasoning)
    assert (changed.request.temperature, changed.changes) == (0.2, ())


@pytest.mark.parametrize(
    ("destination", "settings", "lost"),
    [
        (chat("gpt-6"), {"presence_penalty": 0.5, "frequency_penalty": 0.5}, 2),
        (chat("o4-mini"), {"stop": ("END",)}, 1),
        (chat("gpt-6-astra"), {"stop": ("END",)}, 1),
        (chat("o3"), {"parallel_tool_calls": False, "tools": (TOOL,)}, 1),
        (chat("gpt-4o"), {"reasoning": Reasoning(effort="high")}, 1),
        (claude("claude-opus-4-7"), {"temperature": 0.2, "top_p": 0.5, "top_k": 3}, 3),
        (gemini("gemini-2.5-flash"), {"presence_penalty": 0.5, "frequency_penalty": 0.5}, 2),
        (gemini("gemini-3-pro-preview"), {"presence_penalty": 0.5, "logprobs": 2}, 2),
        (chat("llama-3.3-70b-versatile", "groq"), {"reasoning": Reasoning(effort="low")}, 1),
        (chat("grok-4", "xai"), {"reasoning": Reasoning(effort="low")}, 1),
    ],
)
def test_settings_that_a_model_rejects_are_dropped(
    destination: Destination, settings: dict[str, Any], lost: int
) -> None:
    changed = adapted(destination, **settings)
    assert len(changed.changes) == lost and set(changed.changes) <= settings.keys()
    assert all(getattr(changed.request, name) in (None, ()) for name in changed.changes)


def test_gemini_2_0_keeps_penalties() -> None:
    assert adapted(gemini("gemini-2.0-flash"), presence_penalty=0.5).changes == ()


@pytest.mark.parametrize("model", ["claude-opus-4-1", "claude-sonnet-4-5", "claude-haiku-4-5-20251001"])
def test_claude_takes_temperature_or_top_p(model: str) -> None:
    changed = adapted(claude(model), temperature=0.5, top_p=0.9)
    assert (changed.request.temperature, changed.request.top_p, changed.changes) == (0.5, None, ("top_p",))
    default = adapted(claude(model), temperature=1, top_p=0.9)
    assert (default.request.temperature, default.request.top_p, default.changes) == (None, 0.9, ())


def test_older_claude_models_take_both() -> None:
    assert adapted(claude("claude-sonnet-4-20250514"), temperature=0.5, top_p=0.9).changes == ()


@pytest.mark.parametrize(
    ("destination", "settings", "expected", "changes"),
    [
        (claude("claude-haiku-4-5"), {"temperature": 1.5}, 1, ("temperature;changed=lowered",)),
        (chat("mistral-large", "mistral"), {"temperature": 2.0}, 1.5, ("temperature;changed=lowered",)),
        (gemini("gemini-2.0-flash"), {"temperature": 3.0}, 2, ("temperature;changed=lowered",)),
        (claude("claude-haiku-4-5"), {"top_k": 0}, 1, ("top_k;changed=raised",)),
        (gemini("gemini-2.0-flash"), {"top_k": 64}, 40, ("top_k;changed=lowered",)),
        (gemini("gemini-2.5-pro"), {"top_k": 100}, 64, ("top_k;changed=lowered",)),
        (chat("gpt-4o"), {"presence_penalty": -3.0}, -2, ("presence_penalty;changed=raised",)),
        (chat("gpt-4o"), {"logprobs": 50}, 20, ("logprobs;changed=lowered",)),
        (chat("kimi", "fireworks"), {"logprobs": 20}, 5, ("logprobs;changed=lowered",)),
        (chat("grok-4.5", "xai"), {"logprobs": 20}, 8, ("logprobs;changed=lowered",)),
        (responses("gpt-4o"), {"n": 4}, 1, ("n;changed=lowered",)),
        (gemini("gemini-2.0-flash"), {"n": 20}, 8, ("n;changed=lowered",)),
        (gemini("gemini-3.5-flash"), {"n": 2}, 1, ("n;changed=lowered",)),
        (chat("gpt-4o"), {"n": 200}, 128, ("n;changed=lowered",)),
        (gemini(), {"seed": 2**31 + 5}, 6, ("seed;changed=rewritten",)),
        (chat("mistral-large", "mistral"), {"seed": -2}, 2**31 - 3, ("seed;changed=rewritten",)),
    ],
)
def test_values_out_of_range_are_moved_into_it(
    destination: Destination, settings: dict[str, Any], expected: float, changes: tuple[str, ...]
) -> None:
    changed = adapted(destination, **settings)
    assert [getattr(changed.request, name) for name in settings] == [expected]
    assert changed.changes == changes
    again = adapted(destination, **dict.fromkeys(settings, expected))
    assert again.changes == ()


@pytest.mark.parametrize(
    ("destination", "most"),
    [
        (chat("gpt-4o"), 4),
        (chat("llama-3.3-70b-versatile", "groq"), 4),
        (chat("grok-4.5", "xai"), 8),
        (chat("deepseek-v4-pro", "deepseek"), 16),
        (gemini(), 5),
        (claude(), 20),
    ],
)
def test_surplus_stop_sequences_are_dropped(destination: Destination, most: int) -> None:
    stop = tuple(f"stop {place}" for place in range(20))
    changed = adapted(destination, stop=stop)
    assert changed.request.stop == stop[:most]
    assert changed.changes == (("stop",) if most < 20 else ())


def test_claude_gets_no_stop_sequence_of_white_space() -> None:
    changed = adapted(claude(), stop=("\n\n", "END", " "))
    assert (changed.request.stop, changed.changes) == (("END",), ("stop",))
    assert adapted(chat("gpt-4o"), stop=("\n\n",)).changes == ()


@pytest.mark.parametrize(
    ("destination", "effort", "expected"),
    [
        (chat("gpt-5"), "xhigh", "high"),
        (chat("gpt-5"), "none", "minimal"),
        (chat("gpt-5.1"), "minimal", "low"),
        (chat("gpt-5-pro"), "low", "high"),
        (responses("gpt-5.2"), "max", "xhigh"),
        (responses("gpt-6"), "max", "max"),
        (responses("gpt-6"), "minimal", "low"),
        (chat("gpt-6-astra"), "none", "low"),
        (responses("gpt-6.2-sol"), "none", "low"),
        (chat("o3"), "minimal", "low"),
        (gemini("gemini-3-pro-preview"), "medium", "high"),
        (gemini("gemini-3.8-flash"), "minimal", "low"),
        (chat("openai/gpt-oss-120b", "groq"), "xhigh", "high"),
        (chat("mistral-large", "mistral"), "medium", "high"),
        (chat("local-model", "compatible"), "xhigh", "high"),
    ],
)
def test_the_nearest_effort_that_a_model_knows_is_sent(
    destination: Destination, effort: str, expected: str
) -> None:
    changed = adapted(destination, reasoning=Reasoning(effort=effort))
    assert changed.request.reasoning is not None
    how = "raised" if EFFORTS.index(expected) > EFFORTS.index(effort) else "lowered"
    changes = (f"reasoning;changed={how}",) if expected != effort else ()
    assert (changed.request.reasoning.effort, changed.changes) == (expected, changes)


def test_a_budget_becomes_an_effort_that_a_model_knows() -> None:
    changed = adapted(chat("gpt-5-pro"), reasoning=Reasoning(budget=1024))
    assert (changed.request.reasoning, changed.changes) == (Reasoning(effort="high"), ())


@pytest.mark.parametrize("model", ["gpt-5.4", "gpt-5.6-sol", "gpt-6-luna"])
def test_tools_of_newer_models_in_chat_turn_reasoning_off(model: str) -> None:
    changed = adapted(chat(model, "azure"), tools=(TOOL,), reasoning=Reasoning(effort="high"))
    assert (changed.request.reasoning, changed.changes) == (Reasoning(effort="none"), ("reasoning",))


@pytest.mark.parametrize("reasoning", [None, Reasoning(effort="none"), Reasoning(budget=0)])
def test_tools_without_an_effort_are_sent_with_the_effort_none(reasoning: Reasoning | None) -> None:
    changed = adapted(chat("gpt-5.6-sol"), tools=(TOOL,), reasoning=reasoning)
    assert (changed.request.reasoning, changed.changes) == (Reasoning(effort="none"), ())


@pytest.mark.parametrize(
    ("model", "reasoning", "expected"),
    [
        ("gpt-5.2", Reasoning(effort="high"), False),
        ("gpt-5.4", Reasoning(effort="high"), True),
        ("gpt-5.4", Reasoning(budget=10_000), True),
        ("gpt-5.4", Reasoning(), True),
        ("gpt-5.4", Reasoning(budget=0), False),
        ("gpt-5.4", Reasoning(effort="none"), False),
        ("gpt-6", None, False),
        ("gpt-6-astra", None, True),
        ("gpt-6-astra", Reasoning(effort="none"), True),
    ],
)
def test_tools_need_the_responses_api_only_while_the_model_reasons(
    model: str, reasoning: Reasoning | None, expected: bool
) -> None:
    request = Request(model="m", messages=(), tools=(TOOL,), reasoning=reasoning)
    assert has_tools_for_responses(request, chat(model)) is expected


@pytest.mark.parametrize(
    ("destination", "settings", "expected", "changes"),
    [
        (chat("gpt-4o"), {"max_tokens": 64_000}, 16_384, ("max_tokens;changed=lowered",)),
        (responses("gpt-4.1"), {"max_tokens": 64_000}, 32_768, ("max_tokens;changed=lowered",)),
        (claude("claude-3-haiku-20240307"), {"max_tokens": 8192}, 4096, ("max_tokens;changed=lowered",)),
        (claude("claude-opus-4-1"), {"max_tokens": 64_000}, 32_000, ("max_tokens;changed=lowered",)),
        (gemini("gemini-2.0-flash"), {"max_tokens": 64_000}, 8192, ("max_tokens;changed=lowered",)),
        (
            chat("llama-3.3-70b-versatile", "groq"),
            {"max_tokens": 64_000},
            32_768,
            ("max_tokens;changed=lowered",),
        ),
        (responses("gpt-4o"), {"max_tokens": 1}, 16, ("max_tokens;changed=raised",)),
        (chat("gpt-4o"), {"max_tokens": 1}, 1, ()),
        (chat("kimi-k2", "fireworks"), {"max_tokens": 8192}, 4096, ("max_tokens;changed=lowered",)),
        (chat("kimi-k2", "fireworks"), {"max_tokens": 8192, "stream": True}, 8192, ()),
        (chat("unknown", "compatible"), {"max_tokens": 9_000_000}, 9_000_000, ()),
    ],
)
def test_the_output_limit_is_one_that_the_model_takes(
    destination: Destination, settings: dict[str, Any], expected: int, changes: tuple[str, ...]
) -> None:
    changed = adapted(destination, **settings)
    assert (changed.request.max_tokens, changed.changes) == (expected, changes)


def test_a_budget_for_thinking_leaves_output_for_an_answer() -> None:
    changed = adapted(
        claude("claude-sonnet-4-5"), max_tokens=200_000, reasoning=Reasoning(effort="high", budget=190_000)
    )
    assert changed.request.max_tokens == 64_000
    assert changed.request.reasoning == Reasoning(effort="high", budget=59_904)
    assert changed.changes == ("max_tokens;changed=lowered", "reasoning;changed=lowered")

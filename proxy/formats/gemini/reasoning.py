"""Thinking in Gemini's format: its settings in generationConfig, and its signatures.

See ai.google.dev/api/generate-content#ThinkingConfig.
"""

import base64
from typing import Any

from msgspec.structs import replace

from proxy.formats.gemini.wire import FORMAT, ThinkingConfig
from proxy.formats.media import URL_SAFE_BASE64
from proxy.formats.neutral import Part, Reasoning, Thinking, ToolCall
from proxy.formats.reasoning import SKIP_SIGNATURE, is_gemini_3
from proxy.formats.seals import render_signature, seal

SYNTHETIC_SIGNATURES = frozenset(
    form.translate(URL_SAFE_BASE64).rstrip("=")
    for text in (SKIP_SIGNATURE, "context_engineering_is_the_way_to_go")
    for form in (text, base64.b64encode(text.encode()).decode())
)
"""Signatures with which a client makes Gemini skip its check.

Each one is here as text and as base64, because Google's SDK encodes it.
"""
DYNAMIC_BUDGET = -1
BUDGET_BY_EFFORT = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
MAX_BUDGET, MAX_PRO_BUDGET, MIN_PRO_BUDGET = 24_576, 32_768, 128
"""Limits of a thinking budget (ai.google.dev/gemini-api/docs/thinking, "Thinking budgets").

Pro models cannot turn thinking off, so they have a minimum.
"""
LEVEL_ALIASES = {"none": "minimal", "xhigh": "high"}
PRO_LEVEL_ALIASES = {"none": "low", "minimal": "low", "xhigh": "high"}


# Signatures ---------------------------------------------------------------------------------------
#
# `thoughtSignature` is a field of a part, beside the content (ai.google.dev/api/caching#Part). The SDK
# google-genai declares it as bytes, so its value must be base64. The SDK sends it back in the URL-safe
# alphabet.


def is_synthetic(signature: str) -> bool:
    """Return whether a signature only makes Gemini skip its check, and does not come from Gemini."""
    return signature.translate(URL_SAFE_BASE64).rstrip("=") in SYNTHETIC_SIGNATURES


def is_content_signature(part: Thinking) -> bool:
    return bool(not part.text and part.signature and part.origin == FORMAT)


def render_thinking(part: Thinking) -> dict[str, Any]:
    rendered = {"text": part.text, "thought": True}
    if part.signature or part.origin != FORMAT:
        rendered["thoughtSignature"] = render_signature(part, FORMAT)
    return rendered


class CallSeals:
    """Puts seals on the calls of another vendor's response, for clients of Gemini's format.

    The seal of a call contains the thinking before the call, because clients may send back the signatures of
    calls without the thoughts. The first call always gets a seal. If the conversation continues with Gemini
    3, the gateway replaces the seal by a signature that Gemini 3 accepts, because Gemini 3 rejects a first
    call without a signature.
    """

    def __init__(self) -> None:
        self.thinking: list[Thinking] = []
        self.has_calls = False

    def sign(self, part: Part) -> Part:
        """Return the part. If it is a call, its signature is the value for `thoughtSignature`."""
        match part:
            case Thinking() if part.origin != FORMAT:
                self.thinking.append(part)
                return part
            case ToolCall():
                return replace(part, signature=self.call_signature(part), origin=FORMAT)
            case _:
                return part

    def call_signature(self, call: ToolCall) -> str | None:
        thinking, self.thinking = self.thinking, []
        is_first, self.has_calls = not self.has_calls, True
        if call.origin == FORMAT and not thinking:
            return call.signature
        if call.signature:
            thinking.append(Thinking(signature=call.signature, origin=call.origin))
        return seal(*thinking) if thinking or is_first else None


# Settings -----------------------------------------------------------------------------------------


def parse_reasoning(config: ThinkingConfig | None) -> Reasoning | None:
    """Parse the thinkingConfig. A budget of 0 turns thinking off.

    Return None if the configuration sets no budget and no level, and does not ask for thoughts: the model
    then decides how much it thinks.
    """
    if config is None:
        return None
    level = (config.thinking_level or "").lower()
    effort = "none" if config.thinking_budget == 0 else level if level in BUDGET_BY_EFFORT else None
    budget = config.thinking_budget or None
    if effort is None and budget is None and not config.include_thoughts:
        return None
    return Reasoning(effort=effort, budget=budget, visible=config.include_thoughts)


def render_reasoning(reasoning: Reasoning, model: str) -> dict[str, Any]:
    visible = (
        {"includeThoughts": True}
        if reasoning.visible or (reasoning.shown_by_default and reasoning.visible is None)
        else {}
    )
    return visible | (
        render_thinking_level(reasoning, model)
        if is_gemini_3(model)
        else render_thinking_budget(reasoning, model)
    )


def render_thinking_level(reasoning: Reasoning, model: str) -> dict[str, Any]:
    """Render the amount of thinking for Gemini 3: the budget if there is one, otherwise the level.

    Gemini 3 rejects a request with both.
    """
    if reasoning.budget is not None:
        return {"thinkingBudget": reasoning.budget}
    if reasoning.effort is None:
        return {}
    levels = PRO_LEVEL_ALIASES if "-pro" in model else LEVEL_ALIASES
    return {"thinkingLevel": levels.get(reasoning.effort, reasoning.effort)}


def render_thinking_budget(reasoning: Reasoning, model: str) -> dict[str, Any]:
    is_pro = "-pro" in model
    if reasoning.effort == "none":
        return {"thinkingBudget": MIN_PRO_BUDGET if is_pro else 0}
    budget = (
        reasoning.budget
        if reasoning.budget is not None
        else BUDGET_BY_EFFORT.get(reasoning.effort or "", DYNAMIC_BUDGET)
    )
    return {"thinkingBudget": min(budget, MAX_PRO_BUDGET if is_pro else MAX_BUDGET)}

"""Reasoning efforts and budgets of OpenAI's formats, and models that require earlier thinking."""

import re

from proxy.formats.neutral import Reasoning

LOW_BUDGET, MEDIUM_BUDGET = 1024, 8192
"""Largest budgets, in tokens, that are treated as low and medium effort."""
THINKING_REQUIRED = "(?i)deepseek|kimi|mimo"
"""Models that reject a tool loop if the thinking of earlier responses is missing, on any server.

DeepSeek: api-docs.deepseek.com/guides/thinking_mode, "Tool calls". Kimi: "thinking is enabled but
reasoning_content is missing" (github.com/MoonshotAI/kimi-agent-sdk/issues/169). MiMo follows DeepSeek.
"""
NON_THINKING = "(?i)deepseek-(chat|v3)|kimi-k2-(0|instruct|turbo|preview)"
"""Those of them that think only if a request asks for it, or never."""
UNKNOWN_THINKING = " "
"""Text for thinking that is missing in the history of a model that requires it.

These models reject an empty text (github.com/NousResearch/hermes-agent/pull/17341,
github.com/charmbracelet/crush/issues/2696).
"""

GEMINI_3 = re.compile(r"gemini-([3-9]|\d\d|.*latest)")
SKIP_SIGNATURE = "skip_thought_signature_validator"
"""Signature that Google documents for calls that Gemini 3 did not make itself
(ai.google.dev/gemini-api/docs/thought-signatures)."""


def effort_from_budget(budget: int | None, default: str | None) -> str | None:
    """Return the effort for a budget in tokens. The result is `default` if the model may choose."""
    if budget is None or budget < 0:
        return default
    if budget == 0:
        return "none"
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"


def requires_thinking(model: str) -> bool:
    """Return whether a model requires the text of earlier thinking in the history."""
    return re.search(THINKING_REQUIRED, model) is not None


def rejects_missing_thinking(model: str, reasoning: Reasoning | None) -> bool:
    """Return whether a model rejects a request with these settings if thinking before a call is missing."""
    if not requires_thinking(model):
        return False
    return reasoning.effort != "none" if reasoning else re.search(NON_THINKING, model) is None


def is_gemini_3(model: str) -> bool:
    """Return whether a model is of Gemini 3 or later.

    They think by levels, reject a turn whose first call has no signature, and take media in results.
    """
    return GEMINI_3.search(model) is not None

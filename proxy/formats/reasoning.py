"""Reasoning efforts and budgets, and the models' rules about earlier thinking, for several formats."""

import re

from proxy.formats.neutral import Reasoning

LOW_BUDGET, MEDIUM_BUDGET = 1024, 8192
"""The largest budgets, in tokens, that count as low and as medium effort."""
THINKING_REQUIRED = "(?i)deepseek|kimi|mimo"
"""Models that reject a history with tool calls if the thinking before the calls is missing.

This is true on every server. DeepSeek: api-docs.deepseek.com/guides/thinking_mode, "Tool calls". Kimi:
"thinking is enabled but reasoning_content is missing" (github.com/MoonshotAI/kimi-agent-sdk/issues/169). MiMo
has the same rule as DeepSeek.
"""
NON_THINKING = "(?i)deepseek-(chat|v3)|kimi-k2-(0|instruct|turbo|preview)"
"""Models matching `THINKING_REQUIRED` that think only if a request asks for it, or never."""
UNKNOWN_THINKING = " "
"""A placeholder for thinking that a model requires but the history does not contain.

These models reject an empty text (github.com/NousResearch/hermes-agent/pull/17341,
github.com/charmbracelet/crush/issues/2696).
"""

GEMINI_3 = re.compile(r"gemini-([3-9]|\d\d|.*latest)")
SKIP_SIGNATURE = "skip_thought_signature_validator"
"""The signature for calls of other models, which Google documents.

Source: ai.google.dev/gemini-api/docs/thought-signatures.
"""


def effort_from_budget(budget: int | None, default: str | None) -> str | None:
    """Return the effort for a budget in tokens; `default` if the model chooses its budget."""
    if budget is None or budget < 0:
        return default
    if budget == 0:
        return "none"
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"


def requires_thinking(model: str) -> bool:
    """Return whether a model requires the text of earlier thinking in the history."""
    return re.search(THINKING_REQUIRED, model) is not None


def rejects_missing_thinking(model: str, reasoning: Reasoning | None) -> bool:
    """Return whether a model, with this setting, rejects a history without the thinking before calls."""
    if not requires_thinking(model):
        return False
    return reasoning.effort != "none" if reasoning else re.search(NON_THINKING, model) is None


def is_gemini_3(model: str) -> bool:
    """Return whether a model is Gemini 3 or later.

    These models have thinking levels, reject a turn whose first call has no signature, and accept media in
    results.
    """
    return GEMINI_3.search(model) is not None

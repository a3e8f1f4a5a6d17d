"""Reasoning efforts and budgets that OpenAI's formats share, and models that need earlier thinking."""

import re

LOW_BUDGET, MEDIUM_BUDGET = 1024, 8192
"""Largest budgets, in tokens, that count as low and medium effort."""
THINKING_REQUIRED = "(?i)deepseek|kimi|mimo"
"""Models that reject a tool loop without the thinking of its earlier responses, whichever server runs them.

DeepSeek: api-docs.deepseek.com/guides/thinking_mode, "Tool calls". Kimi: "thinking is enabled but
reasoning_content is missing" (github.com/MoonshotAI/kimi-agent-sdk/issues/169). MiMo follows DeepSeek.
"""
UNKNOWN_THINKING = " "
"""Thinking of a response that came without it, for models that insist on some: they reject an empty text
(github.com/NousResearch/hermes-agent/pull/17341, github.com/charmbracelet/crush/issues/2696)."""


def effort_from_budget(budget: int | None, default: str | None) -> str | None:
    """Return the effort that a budget in tokens stands for; `default` if the model may choose."""
    if budget is None or budget < 0:
        return default
    if budget == 0:
        return "none"
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"


def requires_thinking(model: str) -> bool:
    """Return whether a model wants the text of earlier thinking back."""
    return re.search(THINKING_REQUIRED, model) is not None

"""Reasoning efforts and budgets: the steps that OpenAI's formats share."""

LOW_BUDGET, MEDIUM_BUDGET = 1024, 8192
"""Largest budgets, in tokens, that count as low and medium effort."""


def effort_from_budget(budget: int | None, default: str | None) -> str | None:
    """Return the effort that a budget in tokens stands for; `default` if the model may choose."""
    if budget is None or budget < 0:
        return default
    if budget == 0:
        return "none"
    return "low" if budget <= LOW_BUDGET else "medium" if budget <= MEDIUM_BUDGET else "high"

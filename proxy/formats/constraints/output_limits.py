"""Adaptation of a request's output limit and thinking budget to a model."""

from msgspec.structs import replace

from proxy.formats.constraints.constraint import Constraints, changed
from proxy.formats.constraints.settings import Adapted
from proxy.formats.neutral import Request

ANSWER_TOKENS = 4096
"""The output tokens to leave for the answer, if a thinking budget would use the whole output limit."""


def max_output(constraints: Constraints, *, stream: bool) -> int | None:
    """Return the maximum output limit at the destination; None if it is not known."""
    rows = [constraints.first("max_tokens")]
    if not stream:
        rows.append(constraints.first("max_tokens_without_stream"))
    return min((int(row.maximum) for row in rows if row is not None and row.maximum), default=None)


def min_output(constraints: Constraints) -> int:
    """Return the lowest output limit that the destination accepts."""
    row = constraints.first("min_tokens")
    return 1 if row is None or row.minimum is None else int(row.minimum)


def fit_output_limit(request: Request, constraints: Constraints) -> Adapted:
    """Lower the output limit to the maximum of the model, or raise it to the minimum of the API."""
    limit = request.max_tokens
    if limit is None:
        return request, []
    highest, lowest = max_output(constraints, stream=request.stream), min_output(constraints)
    if highest is not None and limit > highest:
        return replace(request, max_tokens=highest), [changed("max_tokens", "lowered")]
    if limit < lowest:
        return replace(request, max_tokens=lowest), [changed("max_tokens", "raised")]
    return request, []


def fit_thinking_budget(request: Request, constraints: Constraints) -> Adapted:
    """Lower a thinking budget that would leave no output for an answer.

    Only the model's maximum is checked here. The codec adapts the budget to the limit in the request.
    """
    reasoning, highest = request.reasoning, max_output(constraints, stream=request.stream)
    if reasoning is None or reasoning.budget is None or highest is None:
        return request, []
    if constraints.first("thinking_budget") is None or reasoning.budget <= highest - ANSWER_TOKENS:
        return request, []
    lowered = replace(reasoning, budget=max(highest - ANSWER_TOKENS, highest // 2))
    return replace(request, reasoning=lowered), [changed("reasoning", "lowered")]

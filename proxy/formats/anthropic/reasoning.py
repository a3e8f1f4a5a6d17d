"""Thinking of the model. Older models take a budget of tokens, newer models an effort.

See platform.claude.com/docs, "Extended thinking" and "Adaptive thinking".
"""

from collections.abc import Sequence
from typing import Any

from proxy.formats.anthropic.capabilities import ModelCapabilities
from proxy.formats.anthropic.wire import WireThinking
from proxy.formats.codec import RenderedRequest
from proxy.formats.json_body import dict_items
from proxy.formats.neutral import Reasoning, Request

DEFAULT_MAX_TOKENS = 4096
"""Output tokens in addition to the thinking budget if the client sets no limit.

This API requires a limit, and most others do not.
"""
MIN_BUDGET = 1024
BUDGET_BY_EFFORT = {"minimal": MIN_BUDGET, "low": MIN_BUDGET, "medium": 4096, "high": 8192, "xhigh": 16_384}
DEFAULT_EFFORT = "medium"
EFFORT_ALIASES = {"minimal": "low", "max": "xhigh"}
"""Efforts that only Anthropic or only the neutral types have, each with the nearest effort of the other."""


def parse_reasoning(thinking: WireThinking | None, effort: str | None) -> Reasoning | None:
    effort = EFFORT_ALIASES.get(effort, effort) if effort else None
    if thinking is None:
        return Reasoning(effort=effort) if effort else None
    if thinking.type == "disabled":
        return Reasoning(effort="none")
    visible = None if thinking.display is None else thinking.display != "omitted"
    budget = thinking.budget_tokens if thinking.type == "enabled" else None
    return Reasoning(effort=effort, budget=budget, visible=visible, shown_by_default=True)


def render_reasoning(
    rendered: RenderedRequest, request: Request, capabilities: ModelCapabilities, limit: int
) -> int:
    """Set how the model thinks, and return the limit of output tokens.

    Thinking counts against that limit.
    """
    reasoning = request.reasoning
    if reasoning is None:
        return limit
    if reasoning.effort == "none" or reasoning.budget == 0:
        if capabilities.thinking_always_on:
            rendered.dropped.append("reasoning")
        elif capabilities.adaptive_thinking:
            lowest = "between_tools" if capabilities.thinks_between_tools else "disabled"
            rendered.body["thinking"] = {"type": lowest}
        return limit
    if capabilities.adaptive_thinking:
        render_adaptive_thinking(rendered, reasoning, capabilities)
        return limit
    if thinking_not_allowed(rendered.body["messages"]) or leaves_no_budget(request.max_tokens):
        rendered.dropped.append("reasoning")
        return limit
    budget, limit = fit_budget(render_budget(reasoning), request.max_tokens)
    rendered.body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    return limit


def render_adaptive_thinking(
    rendered: RenderedRequest, reasoning: Reasoning, capabilities: ModelCapabilities
) -> None:
    thinking = {"type": "adaptive"}
    if reasoning.visible is not None:
        thinking["display"] = "summarized" if reasoning.visible else "omitted"
    rendered.body["thinking"] = thinking
    if effort := render_effort(reasoning, capabilities):
        rendered.body["output_config"] = {"effort": effort}


def render_effort(reasoning: Reasoning, capabilities: ModelCapabilities) -> str | None:
    effort = reasoning.effort
    if effort is None and reasoning.budget is not None and reasoning.budget > 0:
        budget = reasoning.budget
        effort = next(
            (name for name in ("low", "medium", "high") if budget <= BUDGET_BY_EFFORT[name]), "xhigh"
        )
    if effort == "xhigh" and not capabilities.supports_xhigh_effort:
        return "high"
    return EFFORT_ALIASES.get(effort, effort) if effort else None


def render_budget(reasoning: Reasoning) -> int:
    if reasoning.budget is not None and reasoning.budget > 0:
        return max(reasoning.budget, MIN_BUDGET)
    return BUDGET_BY_EFFORT.get(reasoning.effort or DEFAULT_EFFORT, BUDGET_BY_EFFORT[DEFAULT_EFFORT])


def leaves_no_budget(limit: int | None) -> bool:
    """Return whether an output limit is too low for any thinking budget. A higher limit would cost more."""
    return limit is not None and limit <= MIN_BUDGET


def fit_budget(budget: int, limit: int | None) -> tuple[int, int]:
    """Return a thinking budget, and an output limit above it, as the API requires.

    If the output limit is too low for the thinking budget, the thinking budget is lowered, because a budget
    of the key may not cover a higher output limit.
    """
    if limit is None:
        return budget, budget + DEFAULT_MAX_TOKENS
    return (budget, limit) if limit > budget else (max(limit // 2, MIN_BUDGET), limit)


def thinking_not_allowed(messages: Sequence[dict[str, Any]]) -> bool:
    """Return whether the history lacks the signed thinking that the API requires.

    If a thinking budget is set, the turn to continue must begin with signed thinking. That thinking is
    missing if another provider generated the turn, or if the client does not keep thinking (docs, "Extended
    thinking with tool use").
    """
    turns = [(message.get("role"), dict_items(message.get("content"))) for message in messages]
    last_role, last_blocks = turns[-1]
    continued = last_role == "assistant" or any(block.get("type") == "tool_result" for block in last_blocks)
    responses = [blocks for role, blocks in turns if role == "assistant"]
    return continued and bool(responses) and not begins_with_thinking(responses[-1])


def begins_with_thinking(blocks: list[dict[str, Any]]) -> bool:
    return bool(blocks) and blocks[0].get("type") in ("thinking", "redacted_thinking")


def is_thinking(rendered: RenderedRequest) -> bool:
    return rendered.body.get("thinking", {}).get("type") in ("enabled", "adaptive")

"""Thinking of the model: its settings in generationConfig, and its signatures.

See ai.google.dev/api/generate-content#ThinkingConfig.
"""

import base64
from typing import Any

from proxy.formats.gemini.capabilities import has_thinking_levels
from proxy.formats.gemini.wire import FORMAT, TO_STANDARD_BASE64, ThinkingConfig
from proxy.formats.neutral import Origin, Reasoning, Thinking
from proxy.formats.signatures import ORIGINS, REDACTED_PREFIX, add_origin, split_origin

MAX_ORIGIN_LENGTH = 24
DYNAMIC_BUDGET = -1
BUDGET_BY_EFFORT = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
MAX_BUDGET, MAX_PRO_BUDGET, MIN_PRO_BUDGET = 24_576, 32_768, 128
"""Limits of ai.google.dev/gemini-api/docs/thinking, "Thinking budgets". Pro models always think."""
LEVEL_ALIASES = {"none": "minimal", "xhigh": "high"}
PRO_LEVEL_ALIASES = {"none": "low", "minimal": "low", "xhigh": "high"}


# Signatures ---------------------------------------------------------------------------------------
#
# google-genai declares `thoughtSignature` as bytes: its value must be base64, and comes back in the URL-safe
# alphabet of base64.


def encode_signature(origin: Origin | None, signature: str) -> str:
    """Return a signature for `thoughtSignature`: unchanged if it is Google's, else with its origin."""
    if origin in (None, FORMAT):
        return signature
    return base64.b64encode(add_origin(origin, signature, FORMAT).encode()).decode()


def decode_signature(encoded: str) -> tuple[Origin, str]:
    """Return the origin of a `thoughtSignature`, and the signature as its origin issued it."""
    for text in (encoded, decode_tagged_signature(encoded)):
        origin, signature = split_origin(text, FORMAT)
        if signature != text:
            return origin, signature
    return FORMAT, encoded


def decode_tagged_signature(encoded: str) -> str:
    """Return the text of a signature that carries its origin; empty for Google's own.

    Google's signatures are long and are not text, so only the start of one is decoded.
    """
    standard = encoded.translate(TO_STANDARD_BASE64)
    try:
        head = base64.b64decode(standard[: len(standard[:MAX_ORIGIN_LENGTH]) // 4 * 4])
        if not any(head.startswith(name.encode()) for name in ORIGINS):
            return ""
        return base64.b64decode(standard + "=" * (-len(standard) % 4)).decode()
    except ValueError:
        return ""


def parse_thinking(text: str, encoded: str | None) -> Thinking:
    if not encoded:
        return Thinking(text=text, origin=FORMAT)
    origin, signature = decode_signature(encoded)
    if origin != FORMAT and signature.startswith(REDACTED_PREFIX):
        return Thinking(text=text, redacted=signature.removeprefix(REDACTED_PREFIX), origin=origin)
    return Thinking(text=text, signature=signature, origin=origin)


def render_signature(part: Thinking) -> str | None:
    """Return the `thoughtSignature` of thinking."""
    if part.redacted is not None:
        return encode_signature(part.origin, REDACTED_PREFIX + part.redacted)
    return encode_signature(part.origin, part.signature) if part.signature else None


def is_content_signature(part: Thinking) -> bool:
    return bool(not part.text and part.signature and part.origin == FORMAT)


def render_thinking(part: Thinking) -> dict[str, Any]:
    signature = render_signature(part)
    return {"text": part.text, "thought": True} | ({"thoughtSignature": signature} if signature else {})


def parse_reasoning(config: ThinkingConfig | None) -> Reasoning | None:
    """Parse the thinkingConfig. A budget of 0 turns thinking off.

    A configuration without a budget, a level or a request for thoughts leaves the amount to the model.
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
        if has_thinking_levels(model)
        else render_thinking_budget(reasoning, model)
    )


def render_thinking_level(reasoning: Reasoning, model: str) -> dict[str, Any]:
    """Render a level, which Gemini 3 takes, or a budget like earlier models; never both."""
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

"""Thoughts and proofs of other providers, carried through this dialect and back.

Thoughts travel as DeepSeek's `reasoning_content` (api-docs.deepseek.com/guides/reasoning_model). A proof of one thought stands beside
it as `reasoning_signature`, an own field; several thoughts, or one that only its origin can read, as OpenRouter's `reasoning_details`
(openrouter.ai/docs/use-cases/reasoning-tokens). Proofs of another origin than this format are marked `origin#proof`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.formats.json_body import dict_items, encode
from proxy.formats.neutral import Origin, Reasoning, Thinking
from proxy.formats.openai_chat.capabilities import nearest_effort
from proxy.formats.openai_chat.wire import FORMAT, WireRequest
from proxy.formats.quirks import Quirks
from proxy.formats.reasoning import effort_from_budget
from proxy.formats.signatures import add_origin, split_origin

SUMMARY_TYPE = "reasoning.summary"


def parse_reasoning(wire: WireRequest) -> Reasoning | None:
    """OpenAI's effort; OpenRouter's `reasoning`; the `thinking` of DeepSeek, Z.AI and others, after Anthropic's."""
    match wire.reasoning or wire.thinking:
        case {"enabled": False} | {"type": "disabled"}:
            return Reasoning(effort="none")
        case {"effort": str(effort), **rest}:
            return Reasoning(effort=effort, visible=not rest.get("exclude", False))
        case {"max_tokens": int(budget), **rest} | {"budget_tokens": int(budget), **rest}:
            return Reasoning(
                budget=budget, effort=wire.reasoning_effort, visible=not rest.get("exclude", False)
            )
        case {"enabled": True} | {"type": "enabled" | "adaptive" | "auto"}:
            return Reasoning(effort=wire.reasoning_effort)
        case _:
            return Reasoning(effort=wire.reasoning_effort) if wire.reasoning_effort else None


def parse_google_signature(wire: dict[str, Any]) -> tuple[Origin, str] | None:
    """Gemini's proof of a call, where Google's own OpenAI-compatible server puts it (ai.google.dev/gemini-api/docs/thought-signatures)."""
    match wire.get("extra_content"):
        case {"google": {"thought_signature": str(proof)}} if proof:
            return split_origin(proof, "gemini")
        case _:
            return None


def render_google_signature(origin: Origin | None, signature: str) -> dict[str, Any]:
    return {
        "google": {
            "thought_signature": signature if origin == "gemini" else add_origin(origin, signature, FORMAT)
        }
    }


def parse_thinking(wire: dict[str, Any]) -> list[Thinking]:
    """The thoughts in a message, under whichever of the names that servers have for them."""
    text = next(
        (
            value
            for name in ("reasoning_content", "reasoning")
            if isinstance(value := wire.get(name), str) and value
        ),
        "",
    )
    detailed = [
        thought
        for detail in dict_items(wire.get("reasoning_details"))
        if (thought := parse_reasoning_detail(detail))
    ]
    proof = wire.get("reasoning_signature")
    if isinstance(proof, str) and proof and not detailed:
        origin, signature = split_origin(proof, FORMAT)
        return [Thinking(text=text, signature=signature, origin=origin)]
    if any(thought.signature or thought.redacted for thought in detailed) or not text:
        return (
            detailed
            if any(thought.text for thought in detailed) or not text
            else [Thinking(text=text, origin=FORMAT), *detailed]
        )
    return [Thinking(text=text, origin=FORMAT)]


def parse_reasoning_detail(detail: dict[str, Any]) -> Thinking | None:
    """One entry of `reasoning_details`. Of our origin it is kept whole, so that it goes back exactly as it came."""
    data, proof = detail.get("data"), detail.get("signature")
    if isinstance(data, str):
        origin, data = split_origin(data, FORMAT)
        return Thinking(redacted=encode(detail).decode() if origin == FORMAT else data, origin=origin)
    name = detail_text_field(detail)
    text = detail.get(name)
    origin, signature = split_origin(proof, FORMAT) if isinstance(proof, str) and proof else (FORMAT, None)
    if origin == FORMAT and (signature or detail.get("id")):
        signature = encode({key: value for key, value in detail.items() if key != name}).decode()
    text = text if isinstance(text, str) else ""
    return Thinking(text=text, signature=signature, origin=origin) if text or signature else None


def detail_text_field(detail: dict[str, Any]) -> str:
    return "summary" if detail.get("type") == SUMMARY_TYPE else "text"


def render_reasoning_detail(thinking: Thinking) -> dict[str, Any]:
    if thinking.redacted is not None:
        own = original_detail(thinking.redacted) if thinking.origin == FORMAT else None
        return own or {
            "type": "reasoning.encrypted",
            "data": add_origin(thinking.origin, thinking.redacted, FORMAT),
        }
    if thinking.signature is None:
        return {"type": "reasoning.text", "text": thinking.text}
    if thinking.origin == FORMAT and (own := original_detail(thinking.signature)):
        return {**own, detail_text_field(own): thinking.text}
    return {
        "type": "reasoning.text",
        "text": thinking.text,
        "signature": add_origin(thinking.origin, thinking.signature, FORMAT),
    }


def original_detail(text: str) -> dict[str, Any] | None:
    """An entry as it came, unless a client has tampered with it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def render_thinking(thinking: Sequence[Thinking]) -> dict[str, Any]:
    """The fields of a message that carry its thoughts."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thinking):
        fields["reasoning_content"] = text
    match thinking:
        case [Thinking(signature=str(proof), redacted=None, origin=origin)] if origin != FORMAT:
            fields["reasoning_signature"] = add_origin(origin, proof, FORMAT)
        case _ if any(thought.signature or thought.redacted for thought in thinking):
            fields["reasoning_details"] = [render_reasoning_detail(thought) for thought in thinking]
        case _:
            pass
    return fields


def render_reasoning(reasoning: Reasoning | None, model: str, quirks: Quirks) -> str | None:
    """Return the value of `reasoning_effort`, or None if the client set no reasoning."""
    if reasoning is None:
        return None
    effort = reasoning.effort or effort_from_budget(reasoning.budget, "medium") or "medium"
    effort = nearest_effort(model, effort)
    return quirks.effort_aliases.get(effort, effort)

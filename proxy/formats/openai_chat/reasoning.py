"""Reasoning settings, and thinking with its signatures in messages.

Thinking is carried as DeepSeek's `reasoning_content` (api-docs.deepseek.com/guides/reasoning_model). The
signature of a single thinking part stands beside it in `reasoning_signature`, a field of the gateway's own.
Several signed parts, and redacted thinking, are carried as OpenRouter's `reasoning_details`
(openrouter.ai/docs/use-cases/reasoning-tokens). A signature of another origin is written `origin#signature`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from proxy.formats.json_body import dict_items, encode
from proxy.formats.neutral import Origin, Reasoning, Thinking
from proxy.formats.openai_chat.wire import FORMAT, WireRequest
from proxy.formats.reasoning import effort_from_budget
from proxy.formats.signatures import add_origin, split_origin

SUMMARY_TYPE = "reasoning.summary"


def parse_reasoning(wire: WireRequest) -> Reasoning | None:
    """Return the reasoning setting, in any of the forms that servers of this format take.

    These are OpenAI's `reasoning_effort`, OpenRouter's `reasoning`, and the `thinking` of DeepSeek, Z.AI and
    others, which follows Anthropic's.
    """
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


def render_reasoning(reasoning: Reasoning | None) -> str | None:
    """Return the value of `reasoning_effort`, or None if the client set no reasoning."""
    if reasoning is None:
        return None
    return reasoning.effort or effort_from_budget(reasoning.budget, "medium") or "medium"


def parse_google_signature(wire: dict[str, Any]) -> tuple[Origin, str] | None:
    """Return origin and signature of a call from Google's OpenAI-compatible server, or None.

    Source: ai.google.dev/gemini-api/docs/thought-signatures.
    """
    match wire.get("extra_content"):
        case {"google": {"thought_signature": str(tagged)}} if tagged:
            return split_origin(tagged, "gemini")
        case _:
            return None


def render_google_signature(origin: Origin | None, signature: str) -> dict[str, Any]:
    return {
        "google": {
            "thought_signature": signature if origin == "gemini" else add_origin(origin, signature, FORMAT)
        }
    }


def parse_thinking(wire: dict[str, Any]) -> list[Thinking]:
    """Return the thinking in a message, under whichever name the server uses."""
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
    tagged = wire.get("reasoning_signature")
    if isinstance(tagged, str) and tagged and not detailed:
        origin, signature = split_origin(tagged, FORMAT)
        return [Thinking(text=text, signature=signature, origin=origin)]
    if any(thought.signature or thought.redacted for thought in detailed) or not text:
        return (
            detailed
            if any(thought.text for thought in detailed) or not text
            else [Thinking(text=text, origin=FORMAT), *detailed]
        )
    return [Thinking(text=text, origin=FORMAT)]


def parse_reasoning_detail(detail: dict[str, Any]) -> Thinking | None:
    """Return one entry of `reasoning_details`, or None if it is empty.

    An entry without another origin is kept whole, so that it goes back unchanged.
    """
    data, tagged = detail.get("data"), detail.get("signature")
    if isinstance(data, str):
        origin, data = split_origin(data, FORMAT)
        return Thinking(redacted=encode(detail).decode() if origin == FORMAT else data, origin=origin)
    name = detail_text_field(detail)
    text = detail.get(name)
    origin, signature = split_origin(tagged, FORMAT) if isinstance(tagged, str) and tagged else (FORMAT, None)
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
    """Return an entry unchanged, or None if a client changed it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def render_thinking(thinking: Sequence[Thinking]) -> dict[str, Any]:
    """Return the fields of a message that carry its thinking."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thinking):
        fields["reasoning_content"] = text
    match thinking:
        case [Thinking(signature=str(tagged), redacted=None, origin=origin)] if origin != FORMAT:
            fields["reasoning_signature"] = add_origin(origin, tagged, FORMAT)
        case _ if any(thought.signature or thought.redacted for thought in thinking):
            fields["reasoning_details"] = [render_reasoning_detail(thought) for thought in thinking]
        case _:
            pass
    return fields

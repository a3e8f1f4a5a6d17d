"""Thoughts and proofs of other providers, carried through this dialect and back.

Thoughts travel as DeepSeek's `reasoning_content` (api-docs.deepseek.com/guides/reasoning_model). A proof of one thought stands beside
it as `reasoning_signature`, an own field; several thoughts, or one that only its origin can read, as OpenRouter's `reasoning_details`
(openrouter.ai/docs/use-cases/reasoning-tokens). Proofs of another origin than this format are marked `origin#proof`.
"""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from proxy.formats.json_body import encode
from proxy.formats.neutral import Origin, Thinking

FORMAT: Origin = "openai_chat"
ORIGINS: dict[str, Origin] = {origin: origin for origin in get_args(Origin)}
SUMMARY_TYPE = "reasoning.summary"


def add_origin(origin: Origin | None, signature: str) -> str:
    return signature if origin in (None, FORMAT) else f"{origin}#{signature}"


def split_origin(tagged: str, default: Origin = FORMAT) -> tuple[Origin, str]:
    """Whose proof it is, and the proof."""
    name, hash_sign, rest = tagged.partition("#")
    return (ORIGINS[name], rest) if hash_sign and name in ORIGINS else (default, tagged)


def parse_google_signature(wire: dict[str, Any]) -> tuple[Origin, str] | None:
    """Gemini's proof of a call, where Google's own OpenAI-compatible server puts it (ai.google.dev/gemini-api/docs/thought-signatures)."""
    match wire.get("extra_content"):
        case {"google": {"thought_signature": str(proof)}} if proof:
            return split_origin(proof, "gemini")
        case _:
            return None


def render_google_signature(origin: Origin | None, signature: str) -> dict[str, Any]:
    return {
        "google": {"thought_signature": signature if origin == "gemini" else add_origin(origin, signature)}
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
        origin, signature = split_origin(proof)
        return [Thinking(text=text, signature=signature, origin=origin)]
    if any(thought.signature or thought.redacted for thought in detailed) or not text:
        return (
            detailed
            if any(thought.text for thought in detailed) or not text
            else [Thinking(text=text, origin=FORMAT), *detailed]
        )
    return [Thinking(text=text, origin=FORMAT)]


def dict_items(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def parse_reasoning_detail(detail: dict[str, Any]) -> Thinking | None:
    """One entry of `reasoning_details`. Of our origin it is kept whole, so that it goes back exactly as it came."""
    data, proof = detail.get("data"), detail.get("signature")
    if isinstance(data, str):
        origin, data = split_origin(data)
        return Thinking(redacted=encode(detail).decode() if origin == FORMAT else data, origin=origin)
    name = detail_text_field(detail)
    text = detail.get(name)
    origin, signature = split_origin(proof) if isinstance(proof, str) and proof else (FORMAT, None)
    if origin == FORMAT and (signature or detail.get("id")):
        signature = encode({key: value for key, value in detail.items() if key != name}).decode()
    text = text if isinstance(text, str) else ""
    return Thinking(text=text, signature=signature, origin=origin) if text or signature else None


def detail_text_field(detail: dict[str, Any]) -> str:
    return "summary" if detail.get("type") == SUMMARY_TYPE else "text"


def render_reasoning_detail(thinking: Thinking) -> dict[str, Any]:
    if thinking.redacted is not None:
        own = original_detail(thinking.redacted) if thinking.origin == FORMAT else None
        return own or {"type": "reasoning.encrypted", "data": add_origin(thinking.origin, thinking.redacted)}
    if thinking.signature is None:
        return {"type": "reasoning.text", "text": thinking.text}
    if thinking.origin == FORMAT and (own := original_detail(thinking.signature)):
        return {**own, detail_text_field(own): thinking.text}
    return {
        "type": "reasoning.text",
        "text": thinking.text,
        "signature": add_origin(thinking.origin, thinking.signature),
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
            fields["reasoning_signature"] = add_origin(origin, proof)
        case _ if any(thought.signature or thought.redacted for thought in thinking):
            fields["reasoning_details"] = [render_reasoning_detail(thought) for thought in thinking]
        case _:
            pass
    return fields

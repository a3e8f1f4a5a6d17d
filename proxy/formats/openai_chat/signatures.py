"""Thoughts and proofs of other providers, carried through this dialect and back.

Thoughts travel as DeepSeek's `reasoning_content` (api-docs.deepseek.com/guides/reasoning_model). A proof of one thought stands beside
it as `reasoning_signature`, an own field; several thoughts, or one that only its origin can read, as OpenRouter's `reasoning_details`
(openrouter.ai/docs/use-cases/reasoning-tokens). Proofs of another origin than this format are marked `origin#proof`.
"""

from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from proxy.formats.body import encode
from proxy.formats.neutral import Origin, Thinking

OWN: Origin = "openai_chat"
ORIGINS: dict[str, Origin] = {origin: origin for origin in get_args(Origin)}
SUMMARY = "reasoning.summary"


def mark(origin: Origin | None, proof: str) -> str:
    return proof if origin in (None, OWN) else f"{origin}#{proof}"


def unmark(proof: str, default: Origin = OWN) -> tuple[Origin, str]:
    """Whose proof it is, and the proof."""
    name, hash_sign, rest = proof.partition("#")
    return (ORIGINS[name], rest) if hash_sign and name in ORIGINS else (default, proof)


def google_signature(wire: dict[str, Any]) -> tuple[Origin, str] | None:
    """Gemini's proof of a call, where Google's own OpenAI-compatible server puts it (ai.google.dev/gemini-api/docs/thought-signatures)."""
    match wire.get("extra_content"):
        case {"google": {"thought_signature": str(proof)}} if proof:
            return unmark(proof, "gemini")
        case _:
            return None


def google_content(origin: Origin | None, proof: str) -> dict[str, Any]:
    return {"google": {"thought_signature": proof if origin == "gemini" else mark(origin, proof)}}


def thoughts_of(wire: dict[str, Any]) -> list[Thinking]:
    """The thoughts in a message, under whichever of the names that servers have for them."""
    text = next((value for name in ("reasoning_content", "reasoning") if isinstance(value := wire.get(name), str) and value), "")
    detailed = [thought for detail in listed(wire.get("reasoning_details")) if (thought := thought_of(detail))]
    proof = wire.get("reasoning_signature")
    if isinstance(proof, str) and proof and not detailed:
        origin, signature = unmark(proof)
        return [Thinking(text=text, signature=signature, origin=origin)]
    if any(thought.signature or thought.redacted for thought in detailed) or not text:
        return detailed if any(thought.text for thought in detailed) or not text else [Thinking(text=text, origin=OWN), *detailed]
    return [Thinking(text=text, origin=OWN)]


def listed(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def thought_of(detail: dict[str, Any]) -> Thinking | None:
    """One entry of `reasoning_details`. Of our origin it is kept whole, so that it goes back exactly as it came."""
    data, proof = detail.get("data"), detail.get("signature")
    if isinstance(data, str):
        origin, data = unmark(data)
        return Thinking(redacted=encode(detail).decode() if origin == OWN else data, origin=origin)
    name = text_field(detail)
    text = detail.get(name)
    origin, signature = unmark(proof) if isinstance(proof, str) and proof else (OWN, None)
    if origin == OWN and (signature or detail.get("id")):
        signature = encode({key: value for key, value in detail.items() if key != name}).decode()
    text = text if isinstance(text, str) else ""
    return Thinking(text=text, signature=signature, origin=origin) if text or signature else None


def text_field(detail: dict[str, Any]) -> str:
    return "summary" if detail.get("type") == SUMMARY else "text"


def detail_of(thought: Thinking) -> dict[str, Any]:
    if thought.redacted is not None:
        own = kept(thought.redacted) if thought.origin == OWN else None
        return own or {"type": "reasoning.encrypted", "data": mark(thought.origin, thought.redacted)}
    if thought.signature is None:
        return {"type": "reasoning.text", "text": thought.text}
    if thought.origin == OWN and (own := kept(thought.signature)):
        return {**own, text_field(own): thought.text}
    return {"type": "reasoning.text", "text": thought.text, "signature": mark(thought.origin, thought.signature)}


def kept(text: str) -> dict[str, Any] | None:
    """An entry as it came, unless a client has tampered with it."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None


def wire_thoughts(thoughts: Sequence[Thinking]) -> dict[str, Any]:
    """The fields of a message that carry its thoughts."""
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thoughts):
        fields["reasoning_content"] = text
    match thoughts:
        case [Thinking(signature=str(proof), redacted=None, origin=origin)] if origin != OWN:
            fields["reasoning_signature"] = mark(origin, proof)
        case _ if any(thought.signature or thought.redacted for thought in thoughts):
            fields["reasoning_details"] = [detail_of(thought) for thought in thoughts]
        case _:
            pass
    return fields

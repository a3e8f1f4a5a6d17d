"""Reasoning settings and the thinking in messages, parsed and rendered.

The text of thinking is in DeepSeek's field `reasoning_content`
(api-docs.deepseek.com/guides/reasoning_model). Its signatures are in OpenRouter's field `reasoning_details`
(openrouter.ai/docs/use-cases/reasoning-tokens). Earlier versions of the gateway sent signatures of other
vendors in `reasoning_signature`, which is still parsed.
"""

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from proxy.formats.json_body import as_str, decode_object, dict_items, encode
from proxy.formats.neutral import Origin, Reasoning, Thinking
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.reasoning import SKIP_SIGNATURE, effort_from_budget
from proxy.formats.seals import parse_thinking, seal, unseal

GOOGLE: Origin = "gemini"
SUMMARY_TYPE = "reasoning.summary"


def parse_reasoning(setting: Any, effort: str | None) -> Reasoning | None:
    """Parse the reasoning setting in each of the forms that servers of this format accept.

    `effort` is OpenAI's field `reasoning_effort`. `setting` is OpenRouter's field `reasoning`, or the field
    `thinking`, which DeepSeek, Z.AI and others have taken from Anthropic's API.
    """
    match setting:
        case {"enabled": False} | {"type": "disabled"}:
            return Reasoning(effort="none")
        case {"effort": str(chosen), **rest}:
            return Reasoning(effort=chosen, visible=not rest.get("exclude", False))
        case {"max_tokens": int(budget), **rest} | {"budget_tokens": int(budget), **rest}:
            return Reasoning(budget=budget, effort=effort, visible=not rest.get("exclude", False))
        case {"enabled": True} | {"type": "enabled" | "adaptive" | "auto"}:
            return Reasoning(effort=effort)
        case _:
            return Reasoning(effort=effort) if effort else None


def render_reasoning(reasoning: Reasoning | None) -> str | None:
    """Return the value of `reasoning_effort`; None if the client has not set reasoning."""
    if reasoning is None:
        return None
    return reasoning.effort or effort_from_budget(reasoning.budget, "medium") or "medium"


def parse_call_signature(wire: dict[str, Any]) -> Thinking | None:
    """Return the signature of a call as empty thinking, or None.

    The signature is in a field that Google's OpenAI-compatible server has added
    (ai.google.dev/gemini-api/docs/thought-signatures).
    """
    match wire.get("extra_content"):
        case {"google": {"thought_signature": str(signature)}} if signature:
            return next((part for part in parse_thinking("", signature, GOOGLE) if part.signature), None)
        case _:
            return None


def render_call_signature(origin: Origin | None, signature: str) -> dict[str, Any]:
    """Return the field `extra_content` of a call, which carries the signature to a client."""
    return google_content(seal(Thinking(signature=signature, origin=origin)))


def google_content(signature: str) -> dict[str, Any]:
    return {"google": {"thought_signature": signature}}


def sign_first_call(calls: list[Any]) -> list[Any]:
    """Return the calls of a message with a signature on the first one, because Gemini 3 requires it."""
    match calls:
        case [dict() as first, *rest] if "extra_content" not in first:
            return [first | {"extra_content": google_content(SKIP_SIGNATURE)}, *rest]
        case _:
            return calls


def with_signed_call(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message for Gemini 3, with a signature on its first call.

    A message that came from a router has its signatures in `reasoning_details`, and is not changed.
    """
    calls = message.get("tool_calls")
    if not calls or "reasoning_details" in message:
        return message
    return message | {"tool_calls": sign_first_call(calls)}


# Thinking -----------------------------------------------------------------------------------------


def parse_message_thinking(wire: dict[str, Any]) -> list[Thinking]:
    """Parse the thinking in a message. The name of its field depends on the server.

    If `reasoning_details` contains the complete thinking, the other field is ignored, because it repeats the
    text.
    """
    names = ("reasoning_content", "reasoning")
    text = next((value for name in names if (value := as_str(wire.get(name)))), "")
    detailed = parse_reasoning_details(wire)
    if not detailed and (signature := as_str(wire.get("reasoning_signature"))):
        return list(parse_thinking(text, signature, FORMAT))
    if any(thought.text for thought in detailed) and any(map(is_signed, detailed)):
        return detailed
    shown = [Thinking(text=text, origin=FORMAT)] if text else []
    if any(map(is_signed, detailed)):
        return [*shown, *detailed]
    return shown or detailed


def is_signed(thinking: Thinking) -> bool:
    """Return whether thinking has a signature, is redacted, or comes from another vendor."""
    return bool(thinking.signature or thinking.redacted) or thinking.origin != FORMAT


def parse_reasoning_details(wire: dict[str, Any]) -> list[Thinking]:
    found: list[Thinking] = []
    for detail in dict_items(wire.get("reasoning_details")):
        text = as_str(detail.get("text"))
        found += [replace(part, text=part.text or text) for part in unseal_detail(detail) or ()]
        own = parse_reasoning_detail(detail)
        found += [own] if own else []
    return found


def unseal_detail(detail: dict[str, Any]) -> tuple[Thinking, ...] | None:
    """Return the thinking in an entry that is a seal; None for an entry that a server has made."""
    data = as_str(detail.get("data"))
    return unseal(data, redacted=True) if data else unseal(as_str(detail.get("signature")))


def parse_reasoning_detail(detail: dict[str, Any]) -> Thinking | None:
    """Return the thinking in an entry that a server has made; None if the entry is empty or a seal.

    All fields of the entry are kept, so that it can be sent back unchanged. If the server is another such
    gateway, its seals are ignored, because the message repeats their text in another field.
    """
    if unseal_detail(detail) is not None:
        return None
    if isinstance(detail.get("data"), str):
        return Thinking(redacted=encode(detail).decode(), origin=FORMAT)
    name = detail_text_field(detail)
    text, signature = as_str(detail.get(name)), None
    if detail.get("signature") or detail.get("id"):
        signature = encode({key: value for key, value in detail.items() if key != name}).decode()
    return Thinking(text=text, signature=signature, origin=FORMAT) if text or signature else None


def detail_text_field(detail: dict[str, Any]) -> str:
    return "summary" if detail.get("type") == SUMMARY_TYPE else "text"


def render_reasoning_detail(thinking: Thinking, index: int) -> dict[str, Any]:
    """Render an entry of `reasoning_details`: the server's original entry, or a seal.

    A seal contains another vendor's thinking. It has an `index`, by which OpenAI's SDK joins the entries of a
    stream.
    """
    if thinking.origin != FORMAT:
        return {"type": "reasoning.encrypted", "data": seal(thinking), "index": index}
    own = original_detail(thinking.redacted or thinking.signature or "")
    if own is None:
        signature = {"signature": thinking.signature} if thinking.signature else {}
        return {"type": "reasoning.text", "text": thinking.text, **signature}
    return own if thinking.redacted else {**own, detail_text_field(own): thinking.text}


def original_detail(text: str) -> dict[str, Any] | None:
    """Decode the original entry of a server; None if there was none, or if it is not valid JSON."""
    try:
        return decode_object(text.encode())
    except (ValueError, RecursionError):
        return None


def render_message_thinking(thinking: Sequence[Thinking]) -> dict[str, Any]:
    """Render the fields of a message that contain its thinking.

    `reasoning_content` is for people to read. If any thinking is signed, redacted or of another vendor,
    `reasoning_details` contains all thinking of the message completely.
    """
    fields: dict[str, Any] = {}
    if text := "".join(thought.text for thought in thinking):
        fields["reasoning_content"] = text
    if any(map(is_signed, thinking)):
        fields["reasoning_details"] = [
            render_reasoning_detail(thought, index) for index, thought in enumerate(thinking)
        ]
    return fields

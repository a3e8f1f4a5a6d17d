"""Removal of seals from the thinking in requests that pass through."""

from collections.abc import Iterator, Mapping, Set
from typing import Any

from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.table import constraints_for
from proxy.formats.json_body import (
    Change,
    as_dict,
    as_list,
    as_str,
    change_items,
    decode_fields,
    replace_fields,
)
from proxy.formats.openai_chat.capabilities import is_google_model, is_openai_model
from proxy.formats.openai_chat.reasoning import (
    GOOGLE,
    google_content,
    parse_reasoning,
    render_reasoning_detail,
    sign_first_call,
    unseal_detail,
)
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.reasoning import (
    UNKNOWN_THINKING,
    is_gemini_3,
    rejects_missing_thinking,
    requires_thinking,
)
from proxy.formats.seals import own_thinking, unseal

THINKING_FIELDS = frozenset({"reasoning_content", "reasoning", "reasoning_details", "reasoning_signature"})
RESPONSE_FIELDS = frozenset({"refusal", "annotations", "audio"})
"""Fields of responses of OpenAI and the gateway that some servers reject in requests.

In most responses, they are empty.
"""
CHANGED_FIELDS = THINKING_FIELDS | RESPONSE_FIELDS | {"tool_calls"}
"""Fields of a message that may contain seals, or that a destination may reject."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body without seals, and the names of dropped settings (none).

    A seal that contains an entry of this format's servers is replaced by this entry. A client may have
    received the messages from another server, so thinking fields that the destination rejects are removed,
    and fields that it requires are added. The content of all messages stays the same.
    """
    candidates = [
        (position, message)
        for position, message in enumerate(as_list(fields.get("messages")))
        if isinstance(message, dict) and not message.keys().isdisjoint(CHANGED_FIELDS)
    ]
    thinks = must_return_thinking([message for _, message in candidates], fields, destination.model)
    changes: dict[int, Change] = {
        position: change
        for position, message in candidates
        if (change := message_change(message, destination, thinks=thinks))
    }
    if not changes:
        return body, ()
    return replace_fields(body, {"messages": change_items(decode_fields(body)["messages"], changes)}), ()


def must_return_thinking(messages: list[dict[str, Any]], fields: Mapping[str, Any], model: str) -> bool:
    """Return whether the model rejects calls without thinking.

    It does so if it thinks in this request, or if the history contains its earlier thinking.
    """
    setting, effort = (
        fields.get("reasoning") or fields.get("thinking"),
        as_str(fields.get("reasoning_effort")),
    )
    reasoning = parse_reasoning(setting, effort or None)
    if reasoning is None and any(message.get(name) for message in messages for name in THINKING_FIELDS):
        return requires_thinking(model)
    return rejects_missing_thinking(model, reasoning)


def message_change(message: dict[str, Any], destination: Destination, *, thinks: bool) -> dict[str, Any]:
    """Return the fields of a message to change. The value None removes a field.

    If a server requires thinking, but the message has none, for example because another model wrote it, a
    placeholder is added.
    """
    refused = refused_fields(destination)
    change = dict(unsealed_fields(message, destination.model, refused))
    change |= dict.fromkeys(THINKING_FIELDS & refused & message.keys())
    change |= without_response_fields(message, RESPONSE_FIELDS & refused)
    lacks_thinking = bool(message.get("tool_calls")) and not message.get("reasoning_content")
    if thinks and lacks_thinking and "reasoning_content" not in refused:
        change["reasoning_content"] = UNKNOWN_THINKING
    return change


def without_response_fields(message: dict[str, Any], refused: Set[str]) -> dict[str, Any]:
    """Return the change that removes empty fields of a response from a message.

    The text of a refusal becomes the content of the message, if it has no other content.
    """
    refusal = message.get("refusal")
    if "refusal" in refused and refusal and not message.get("content"):
        return {"refusal": None, "content": refusal}
    return {name: None for name in refused & message.keys() if not message[name]}


def refused_fields(destination: Destination) -> frozenset[str]:
    """Return the message fields that the destination rejects.

    The result is empty if the provider is OpenAI, but the model is not one of OpenAI's models, because the
    operator has then configured another server in place of OpenAI.
    """
    if destination.provider == "openai" and not is_openai_model(destination.model):
        return frozenset()
    return constraints_for(destination).names("message_fields")


def unsealed_fields(
    message: dict[str, Any], model: str, refused: frozenset[str]
) -> Iterator[tuple[str, Any]]:
    details, calls = as_list(message.get("reasoning_details")), as_list(message.get("tool_calls"))
    own_details = [entry for detail in details for entry in restored_detail(detail)]
    own_calls = [restored_call(call, model, refused) for call in calls]
    if is_gemini_3(model) and not own_details and "extra_content" not in refused:
        own_calls = sign_first_call(own_calls)
    if own_details != details or "reasoning_signature" in message:
        yield "reasoning_signature", None
        yield "reasoning_details", own_details or None
    if own_calls != calls:
        yield "tool_calls", own_calls


def restored_detail(detail: Any) -> list[Any]:
    """Return an entry of `reasoning_details` without a seal, as a list.

    The list is empty if the seal does not contain an entry of this format's servers.
    """
    sealed = unseal_detail(as_dict(detail))
    if sealed is None:
        return [detail]
    own = own_thinking(sealed, FORMAT)
    return [render_reasoning_detail(own, 0)] if own else []


def restored_call(call: Any, model: str, refused: frozenset[str]) -> Any:
    """Return a call without a seal. For a model of Google, Google's signature replaces the seal."""
    match call:
        case {"extra_content": {"google": {"thought_signature": str(signature)}}, **rest}:
            sealed = () if "extra_content" in refused else unseal(signature)
            if sealed is None:
                return call
            own = own_thinking(sealed, GOOGLE) if is_google_model(model) else None
            return rest | ({"extra_content": google_content(own.signature or "")} if own else {})
        case _:
            return call

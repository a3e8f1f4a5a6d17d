"""Seals in requests that are passed through, in the fields of a message that carry thinking."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.formats.constraints.constraint import Destination
from proxy.formats.constraints.table import constraints_for
from proxy.formats.json_body import (
    Change,
    as_dict,
    as_list,
    change_items,
    decode_fields,
    replace_fields,
)
from proxy.formats.openai_chat.capabilities import is_google_model
from proxy.formats.openai_chat.reasoning import (
    GOOGLE,
    google_content,
    render_reasoning_detail,
    unseal_detail,
)
from proxy.formats.openai_chat.wire import FORMAT
from proxy.formats.reasoning import UNKNOWN_THINKING, requires_thinking
from proxy.formats.seals import own_thinking, unseal

SEALED_FIELDS = frozenset({"reasoning_details", "reasoning_signature", "tool_calls"})
"""Fields of a message that may hold seals, or calls without thinking."""
THINKING_FIELDS = frozenset({"reasoning_content", "reasoning_details"})


def without_seals(
    body: bytes, fields: Mapping[str, Any], destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body with the entries of this format's servers restored, and without other seals.

    The content of all messages stays, and no setting is dropped.
    """
    messages = fields.get("messages") or ()
    is_thinking = requires_thinking(destination.model) and any(
        message.get("reasoning_content") for message in messages
    )
    changes: dict[int, Change] = {
        position: change
        for position, message in enumerate(messages)
        if not message.keys().isdisjoint(SEALED_FIELDS)
        and (change := message_change(message, destination, is_thinking=is_thinking))
    }
    if not changes:
        return body, ()
    return replace_fields(body, {"messages": change_items(decode_fields(body)["messages"], changes)}), ()


def message_change(message: dict[str, Any], destination: Destination, *, is_thinking: bool) -> dict[str, Any]:
    """Return the fields of a message to set, with None for those to remove.

    A converted response has thinking in fields that some servers reject, or lacks it for a server that
    insists on it: its vendor may not have thought.
    """
    change = dict(unsealed_fields(message, destination.model))
    refused = constraints_for(destination).names("message_fields")
    if change:
        change |= dict.fromkeys(refused & THINKING_FIELDS)
    lacks_thinking = bool(message.get("tool_calls")) and not message.get("reasoning_content")
    insists = is_thinking or (bool(change) and requires_thinking(destination.model))
    if lacks_thinking and insists and "reasoning_content" not in refused:
        change["reasoning_content"] = UNKNOWN_THINKING
    return change


def unsealed_fields(message: dict[str, Any], model: str) -> Iterator[tuple[str, Any]]:
    details, calls = as_list(message.get("reasoning_details")), as_list(message.get("tool_calls"))
    own_details = [entry for detail in details for entry in restored_detail(detail)]
    own_calls = [restored_call(call, model) for call in calls]
    if own_details != details or "reasoning_signature" in message:
        yield "reasoning_signature", None
        yield "reasoning_details", own_details or None
    if own_calls != calls:
        yield "tool_calls", own_calls


def restored_detail(detail: Any) -> list[Any]:
    """Return an entry of the vendor's own, or none for a seal of another vendor."""
    sealed = unseal_detail(as_dict(detail))
    if sealed is None:
        return [detail]
    own = own_thinking(sealed, FORMAT)
    return [render_reasoning_detail(own, 0)] if own else []


def restored_call(call: Any, model: str) -> Any:
    """Return a call without a seal: with its signature if the server is Google's."""
    match call:
        case {"extra_content": {"google": {"thought_signature": str(signature)}}, **rest}:
            sealed = unseal(signature)
            if sealed is None:
                return call
            own = own_thinking(sealed, GOOGLE) if is_google_model(model) else None
            return rest | ({"extra_content": google_content(own.signature or "")} if own else {})
        case _:
            return call

"""Seals in requests that are passed through: Claude rejects a signature that it has not issued.

See platform.claude.com/docs, "Extended thinking".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw

from proxy.formats.anthropic.reasoning import thinking_not_allowed
from proxy.formats.anthropic.wire import FORMAT, decode_any
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import (
    Change,
    as_dict,
    as_list,
    as_str,
    change_nested,
    decode_fields,
    dict_items,
    encode,
    replace_fields,
)
from proxy.formats.neutral import Thinking
from proxy.formats.reasoning import requires_thinking
from proxy.formats.seals import own_thinking, unseal

SEALED_FIELDS = {"thinking": "signature", "redacted_thinking": "data"}
"""Blocks of thinking, each with the field that may be a seal."""
THINKING_TYPES = tuple(SEALED_FIELDS)
CLAUDE = re.compile("claude")
CALL_ID_PREFIX = "toolu_"
CLEAR_THINKING = "clear_thinking"
"""Start of the types of edits that the API rejects without thinking (docs, "Context editing")."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body without sealed thinking, and the settings that had to be dropped with it.

    Thinking with a signature of this API is restored. All other bytes of the messages stay.
    """
    messages = fields.get("messages") or ()
    changes = block_changes(messages, destination.model)
    if changes:
        kept = change_nested(decode_fields(body)["messages"], "content", changes)
        body, messages = replace_fields(body, {"messages": kept}), decode_any(encode(kept))
    if is_thinking_rejected(fields.get("thinking"), messages, is_restored=bool(changes)):
        return without_thinking(body)
    return body, ()


def block_changes(messages: Sequence[dict[str, Any]], model: str) -> dict[int, dict[int, Change]]:
    """Return the changes of blocks, by the positions of message and block."""
    thinking = [
        (index, position, block)
        for index, message in enumerate(messages)
        if message.get("role") == "assistant"
        for position, block in enumerate(as_list(message.get("content")))
        if isinstance(block, dict) and block.get("type") in THINKING_TYPES
    ]
    changes: dict[int, dict[int, Change]] = {}
    for index, position, block in thinking:
        field = SEALED_FIELDS[block["type"]]
        if (sealed := foreign_thinking(block, field, model)) is not None:
            changes.setdefault(index, {})[position] = block_change(field, sealed, model)
    return changes


def foreign_thinking(block: dict[str, Any], field: str, model: str) -> tuple[Thinking, ...] | None:
    """Return what the seal of a block holds, or None for a block of the API's own.

    Claude signs all of its thinking. Other servers of this API may sign none.
    """
    value = as_str(block.get(field))
    if not value:
        return () if CLAUDE.search(model) else None
    return unseal(value, redacted=field == "data")


def block_change(field: str, sealed: tuple[Thinking, ...], model: str) -> Change:
    """Return the change of a block: restored, removed, or without its seal.

    A server that insists on earlier thinking verifies no signatures, and keeps the text.
    """
    own = own_thinking(sealed, FORMAT)
    if own is not None:
        return {field: own.signature or own.redacted}
    return {field: ""} if field == "signature" and requires_thinking(model) else None


def is_thinking_rejected(thinking: Any, messages: Sequence[dict[str, Any]], *, is_restored: bool) -> bool:
    """Return whether the API rejects thinking with a budget, because another vendor began the tool loop.

    Claude's own loops may continue without thinking. Its calls have ids of their own.
    """
    if as_dict(thinking).get("type") != "enabled" or not messages or not thinking_not_allowed(messages):
        return False
    last = next(message for message in reversed(messages) if message.get("role") == "assistant")
    calls = [block for block in dict_items(last.get("content")) if block.get("type") == "tool_use"]
    return is_restored or any(not as_str(call.get("id")).startswith(CALL_ID_PREFIX) for call in calls)


def without_thinking(body: bytes) -> tuple[bytes, tuple[str, ...]]:
    fields: dict[str, Any] = dict(decode_fields(body))
    del fields["thinking"]
    management: dict[str, Any] = as_dict(decode_any(fields.get("context_management", Raw(b"null"))))
    edits = dict_items(management.get("edits"))
    kept = [edit for edit in edits if not as_str(edit.get("type")).startswith(CLEAR_THINKING)]
    if len(kept) < len(edits):
        fields["context_management"] = management | {"edits": kept}
    return encode(fields), ("thinking",)

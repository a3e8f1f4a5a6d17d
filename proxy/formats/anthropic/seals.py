"""Remove what the gateway has put into passed-through histories: seals and made-up citations.

Claude rejects foreign signatures, and citations of searches that it has not made.

See platform.claude.com/docs, "Extended thinking".
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from proxy.formats.anthropic.capabilities import accepts_thinking
from proxy.formats.anthropic.reasoning import thinking_not_allowed
from proxy.formats.anthropic.wire import FORMAT, decode_any
from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import (
    Change,
    as_dict,
    as_list,
    as_str,
    change_items,
    change_nested,
    decode_fields,
    decode_items,
    dict_items,
    encode,
    replace_fields,
)
from proxy.formats.neutral import Reasoning, Thinking
from proxy.formats.reasoning import UNKNOWN_THINKING, rejects_missing_thinking, requires_thinking
from proxy.formats.seals import own_thinking, unseal

SEALED_FIELDS = {"thinking": "signature", "redacted_thinking": "data"}
"""Types of thinking blocks, each with the field that may contain a seal."""
THINKING_TYPES = tuple(SEALED_FIELDS)
UNKNOWN_BLOCK = {"type": "thinking", "thinking": UNKNOWN_THINKING, "signature": ""}
CALL_ID_PREFIX = "toolu_"
CLEAR_THINKING = "clear_thinking"
"""The prefix of context edits that the API rejects if thinking is off (docs, "Context editing")."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body without seals, and the names of the settings that had to be dropped.

    A seal that contains thinking of this API is replaced by this thinking. All other bytes of the messages
    stay the same.
    """
    messages, model = fields.get("messages") or (), destination.model
    changes = block_changes(messages, model)
    if changes:
        kept = change_nested(decode_fields(body)["messages"], "content", changes)
        body, messages = replace_fields(body, {"messages": kept}), decode_any(encode(kept))
    if rejects_missing_thinking(model, thinking_setting(fields)):
        return with_thinking(body, messages), ()
    if is_thinking_rejected(fields.get("thinking"), messages, is_restored=bool(changes)):
        return without_thinking(body)
    return body, ()


def block_changes(messages: Sequence[dict[str, Any]], model: str) -> dict[int, dict[int, Change]]:
    """Return the changes of blocks, by the position of the message and the position of the block in it."""
    thinking = [
        (index, position, block)
        for index, message in enumerate(messages)
        if message.get("role") == "assistant"
        for position, block in enumerate(as_list(message.get("content")))
        if isinstance(block, dict) and block.get("type") in THINKING_TYPES
    ]
    changes = citation_changes(messages)
    for index, position, block in thinking:
        field = SEALED_FIELDS[block["type"]]
        if (sealed := foreign_thinking(block, field, model)) is not None:
            changes.setdefault(index, {})[position] = block_change(block, field, sealed, model)
    return changes


def citation_changes(messages: Sequence[dict[str, Any]]) -> dict[int, dict[int, Change]]:
    """Return the changes of texts with citations of another vendor: they lose these citations."""
    changes: dict[int, dict[int, Change]] = {}
    for index, message in enumerate(messages):
        for position, block in enumerate(as_list(message.get("content"))):
            citations = as_dict(block).get("citations")
            if isinstance(citations, list) and any(map(is_foreign_citation, citations)):
                kept = [citation for citation in citations if not is_foreign_citation(citation)]
                changes.setdefault(index, {})[position] = {"citations": kept or None}
    return changes


def is_foreign_citation(citation: Any) -> bool:
    """Return whether the gateway has made a citation. Citations of Claude's own searches have an index."""
    return as_dict(citation).get("encrypted_index") == ""


def foreign_thinking(block: dict[str, Any], field: str, model: str) -> tuple[Thinking, ...] | None:
    """Return the thinking in the seal of a block; None if the block can stay as it is.

    The result is empty if the block has no seal, but the model rejects its thinking. Claude signs all of its
    thinking, but other servers of this API may not sign theirs, or sign it in another way.
    """
    value, text = as_str(block.get(field)), as_str(block.get("thinking"))
    sealed = unseal(value, redacted=field == "data")
    if sealed is not None:
        return sealed
    own = Thinking(redacted=value) if field == "data" else Thinking(text=text, signature=value)
    return None if accepts_thinking(own, model) else ()


def block_change(block: dict[str, Any], field: str, sealed: tuple[Thinking, ...], model: str) -> Change:
    """Return the change of a block: restore its signature, remove its seal, or remove the block.

    The block keeps its text, without a signature, if the server requires the text of earlier thinking. Such a
    server does not verify signatures.
    """
    own = own_thinking(sealed, FORMAT)
    if own is not None and accepts_thinking(
        replace(own, text=own.text or as_str(block.get("thinking"))), model
    ):
        return {field: own.signature or own.redacted}
    return {field: ""} if block.get("thinking") and requires_thinking(model) else None


def thinking_setting(fields: Mapping[str, Any]) -> Reasoning | None:
    match as_dict(fields.get("thinking")).get("type"):
        case None:
            return None
        case "disabled":
            return Reasoning(effort="none")
        case _:
            return Reasoning()


def with_thinking(body: bytes, messages: Sequence[dict[str, Any]]) -> bytes:
    """Return the body with a thinking block in each message that has calls but no thinking.

    Some servers require such a block.
    """
    without = [index for index, message in enumerate(messages) if lacks_thinking(message)]
    if not without:
        return body
    raw = decode_fields(body)["messages"]
    items = decode_items(raw)
    changes = {
        index: {"content": [UNKNOWN_BLOCK, *decode_items(decode_fields(items[index])["content"])]}
        for index in without
    }
    return replace_fields(body, {"messages": change_items(raw, changes)})


def lacks_thinking(message: dict[str, Any]) -> bool:
    types = {block.get("type") for block in dict_items(message.get("content"))}
    return message.get("role") == "assistant" and "tool_use" in types and "thinking" not in types


def is_thinking_rejected(thinking: Any, messages: Sequence[dict[str, Any]], *, is_restored: bool) -> bool:
    """Return whether the API rejects thinking with a budget, because the history lacks Claude's thinking.

    This is the case if another vendor's model made the last calls. Claude's calls have ids with a certain
    prefix, and can be continued without thinking.
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

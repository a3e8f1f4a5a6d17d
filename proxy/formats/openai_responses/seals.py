"""Removal of seals and of the gateway's ids from requests that pass through.

OpenAI decrypts the `encrypted_content` of every reasoning item, and looks up a reasoning item without it by
its id (platform.openai.com/docs/guides/reasoning).
"""

from collections.abc import Mapping
from typing import Any

from proxy.formats.constraints.constraint import Destination
from proxy.formats.json_body import (
    Change,
    as_list,
    as_str,
    change_items,
    decode_fields,
    dict_items,
    replace_fields,
)
from proxy.formats.media import data_url, detect_media_type
from proxy.formats.openai_responses.content import is_own_id
from proxy.formats.openai_responses.opaque_parts import part_text
from proxy.formats.openai_responses.summaries import COMPACTION_TYPES, parse_summary
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.seals import own_thinking, unseal

OWN_FIELDS = frozenset({"id", "encrypted_content"})
"""Fields of an item that may contain an id or a seal of the gateway."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], _destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body without seals and the gateway's ids, and the names of dropped settings (none).

    A seal that contains OpenAI's encrypted thinking is replaced by it. All other bytes of the items stay the
    same.
    """
    changes = {
        position: change
        for position, item in enumerate(as_list(fields.get("input")))
        if isinstance(item, dict)
        and not item.keys().isdisjoint(OWN_FIELDS)
        and (change := item_change(item)) != {}
    }
    if not changes:
        return body, ()
    return replace_fields(body, {"input": change_items(decode_fields(body)["input"], changes)}), ()


def item_change(item: dict[str, Any]) -> Change:
    """Return the change that removes the gateway's ids and seals from an item, and keeps its content."""
    match item:
        case {"type": "reasoning"}:
            return reasoning_change(item)
        case {"type": kind} if kind in COMPACTION_TYPES and (summary := parse_summary(item)) is not None:
            return summary_change(summary)
        case {"type": "agent_message"} if has_plain_payload(item):
            return {"content": list(map(readable_part, as_list(item.get("content"))))} | id_change(item)
        case {"type": "item_reference"}:
            return {}  # The item stays. OpenAI rejects it with an error that names it.
        case {"type": "image_generation_call", "result": str(data)} if is_own_id(item.get("id")):
            return image_change(data)
        case _:
            return id_change(item)


def id_change(item: dict[str, Any]) -> dict[str, Any]:
    return {"id": None} if is_own_id(item.get("id")) else {}


def has_plain_payload(item: dict[str, Any]) -> bool:
    """Return whether a message between agents has plain text in a field for encrypted text."""
    return any(
        part.get("type") == "encrypted_content" and part_text(part) is not None
        for part in dict_items(item.get("content"))
    )


def readable_part(part: Any) -> Any:
    """Return a part of a message between agents. If its text is not encrypted, return it as a text part."""
    text = part_text(part) if isinstance(part, dict) and part.get("type") == "encrypted_content" else None
    return part if text is None else {"type": "input_text", "text": text}


def image_change(data: str) -> Change:
    """Return the change that turns another vendor's image into an image in a user message.

    OpenAI does not know the call that generated the image.
    """
    url = data_url(detect_media_type(data) or "image/png", data)
    content = [{"type": "input_image", "image_url": url, "detail": "auto"}]
    without = {"id": None, "status": None, "result": None}
    return {"type": "message", "role": "user", "content": content, **without}


def summary_change(summary: str) -> Change:
    """Return the change that turns another vendor's summary into a user message."""
    content = [{"type": "input_text", "text": summary}]
    return {"type": "message", "role": "user", "content": content, "id": None, "encrypted_content": None}


def reasoning_change(item: dict[str, Any]) -> Change:
    """Return the change of a reasoning item.

    OpenAI's encrypted thinking is sent without an id, because the gateway does not know the original id, and
    OpenAI would not accept another one.
    """
    encrypted = as_str(item.get("encrypted_content"))
    sealed = unseal(encrypted) if encrypted else () if is_own_id(item.get("id")) else None
    if sealed is None:
        return id_change(item)
    own = own_thinking(sealed, FORMAT)
    return None if own is None else {"id": None, "encrypted_content": own.signature}

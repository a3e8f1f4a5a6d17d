"""Seals and the gateway's own ids in requests that are passed through.

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
"""Fields of an item in which the gateway's own may stand."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], _destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body with OpenAI's encrypted thinking restored, without other seals and own ids.

    All other bytes of the items stay, and no setting is dropped.
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
    """Return the change of an item: what it has from the gateway goes, and its content stays."""
    match item:
        case {"type": "reasoning"}:
            return reasoning_change(item)
        case {"type": kind} if kind in COMPACTION_TYPES and (summary := parse_summary(item)) is not None:
            return summary_change(summary)
        case {"type": "agent_message"} if has_plain_payload(item):
            return {"content": list(map(readable_part, as_list(item.get("content"))))} | id_change(item)
        case {"type": "item_reference"}:
            return {}  # OpenAI's error tells the client which item it cannot refer to.
        case {"type": "image_generation_call", "result": str(data)} if is_own_id(item.get("id")):
            return image_change(data)
        case _:
            return id_change(item)


def id_change(item: dict[str, Any]) -> dict[str, Any]:
    return {"id": None} if is_own_id(item.get("id")) else {}


def has_plain_payload(item: dict[str, Any]) -> bool:
    """Return whether another vendor's model wrote a text where OpenAI expects its own encryption."""
    return any(
        part.get("type") == "encrypted_content" and part_text(part) is not None
        for part in dict_items(item.get("content"))
    )


def readable_part(part: Any) -> Any:
    """Return a part of a message between agents, as a text if it is not encrypted."""
    text = part_text(part) if isinstance(part, dict) and part.get("type") == "encrypted_content" else None
    return part if text is None else {"type": "input_text", "text": text}


def image_change(data: str) -> Change:
    """Return the change of another vendor's image to one in a message: OpenAI has no call that made it."""
    url = data_url(detect_media_type(data) or "image/png", data)
    content = [{"type": "input_image", "image_url": url, "detail": "auto"}]
    without = {"id": None, "status": None, "result": None}
    return {"type": "message", "role": "user", "content": content, **without}


def summary_change(summary: str) -> Change:
    """Return the change of another vendor's summary of the conversation to a message."""
    content = [{"type": "input_text", "text": summary}]
    return {"type": "message", "role": "user", "content": content, "id": None, "encrypted_content": None}


def reasoning_change(item: dict[str, Any]) -> Change:
    """Return the change of a reasoning item.

    OpenAI's own goes back without an id: the one that it had is not known, and another would not match.
    """
    encrypted = as_str(item.get("encrypted_content"))
    sealed = unseal(encrypted) if encrypted else () if is_own_id(item.get("id")) else None
    if sealed is None:
        return id_change(item)
    own = own_thinking(sealed, FORMAT)
    return None if own is None else {"id": None, "encrypted_content": own.signature}

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
    replace_fields,
)
from proxy.formats.media import data_url, detect_media_type
from proxy.formats.openai_responses.content import is_own_id
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
        case {"type": "item_reference"}:
            return {}  # OpenAI's error tells the client which item it cannot refer to.
        case {"type": "image_generation_call", "result": str(data)} if is_own_id(item.get("id")):
            return image_change(data)
        case _:
            return {"id": None} if is_own_id(item.get("id")) else {}


def image_change(data: str) -> Change:
    """Return the change of another vendor's image to one in a message: OpenAI has no call that made it."""
    url = data_url(detect_media_type(data) or "image/png", data)
    content = [{"type": "input_image", "image_url": url, "detail": "auto"}]
    without = {"id": None, "status": None, "result": None}
    return {"type": "message", "role": "user", "content": content, **without}


def reasoning_change(item: dict[str, Any]) -> Change:
    """Return the change of a reasoning item.

    OpenAI's own goes back without an id: the one that it had is not known, and another would not match.
    """
    encrypted = as_str(item.get("encrypted_content"))
    sealed = unseal(encrypted) if encrypted else () if is_own_id(item.get("id")) else None
    if sealed is None:
        return {"id": None} if is_own_id(item.get("id")) else {}
    own = own_thinking(sealed, FORMAT)
    return None if own is None else {"id": None, "encrypted_content": own.signature}

"""Removal of seals from requests that pass through: Gemini accepts only its own signatures.

See ai.google.dev/gemini-api/docs/thought-signatures.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from proxy.formats.constraints.constraint import Destination
from proxy.formats.gemini.wire import FORMAT
from proxy.formats.json_body import (
    Change,
    as_objects,
    as_str,
    change_nested,
    decode_fields,
    replace_fields,
)
from proxy.formats.neutral import Thinking
from proxy.formats.reasoning import SKIP_SIGNATURE, is_gemini_3
from proxy.formats.seals import own_thinking, unseal

SIGNATURE_FIELDS = ("thoughtSignature", "thought_signature")
CALL_FIELDS = ("functionCall", "function_call")
COUNTED_REQUEST_FIELDS = ("generateContentRequest", "generate_content_request")
"""Fields of a `countTokens` request that contain a complete generateContent request."""


def without_seals(
    body: bytes, fields: Mapping[str, Any], destination: Destination
) -> tuple[bytes, tuple[str, ...]]:
    """Return the body without seals, and the names of dropped settings (none).

    A seal that contains a signature of Google is replaced by this signature. Other seals, and the thoughts
    that they seal, are removed. All other text and bytes stay the same.
    """
    for name in COUNTED_REQUEST_FIELDS:
        if isinstance(inner := fields.get(name), dict):
            raw = bytes(decode_fields(body)[name])
            restored, _ = without_seals(raw, inner, destination)
            body = body if restored is raw else replace_fields(body, {name: Raw(restored)})
    changes = part_changes(as_objects(fields.get("contents")), destination.model)
    if not changes:
        return body, ()
    raw_contents = decode_fields(body)["contents"]
    return replace_fields(body, {"contents": change_nested(raw_contents, "parts", changes)}), ()


def part_changes(contents: list[Any], model: str) -> dict[int, dict[int, Change]]:
    """Return the changes of parts, by the position of the content and the position of the part in it."""
    signed = [
        (index, position, part, field)
        for index, content in enumerate(contents)
        if isinstance(content, dict) and content.get("role") != "user"
        for position, part in enumerate(as_objects(content.get("parts")))
        for field in SIGNATURE_FIELDS
        if isinstance(part, dict) and field in part
    ]
    changes: dict[int, dict[int, Change]] = {}
    for index, position, part, field in signed:
        if (sealed := unseal(as_str(part[field]))) is not None:
            changes.setdefault(index, {})[position] = part_change(part, field, sealed, model)
    return changes


def part_change(part: dict[str, Any], field: str, sealed: tuple[Thinking, ...], model: str) -> Change:
    """Return the change of a part with a seal; None to remove another vendor's thought."""
    own = own_thinking(sealed, FORMAT)
    if own is not None:
        return {field: own.signature}
    if any(name in part for name in CALL_FIELDS):
        return {field: SKIP_SIGNATURE if is_gemini_3(model) else None}
    is_content = any(value and name not in (field, "thought") for name, value in part.items())
    return {field: None} if is_content and not part.get("thought") else None

"""JSON bodies: lenient and strict decoding, and the replacement of single fields."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, ParamSpec, TypeVar

import msgspec
from msgspec import Meta, Raw

from proxy.formats.neutral import MAX_TOKENS, InvalidRequest

P = ParamSpec("P")
T = TypeVar("T")
ModelName = Annotated[str, Meta(min_length=1, max_length=200)]
TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
DECODE_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""Exceptions that decoding a provider's data can raise, for example for a lone surrogate."""
TOO_DEEP_MESSAGE = "The body is nested too deeply."
LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
JSON_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.",
    re.DOTALL,
)
"""All escapes in JSON. The group matches if the escape is a lone surrogate."""
ESCAPED_ASCII_LETTER = re.compile(rb"\\u00[4-7]")
BOM = b"\xef\xbb\xbf"
decode_any = msgspec.json.Decoder().decode
decode_object = msgspec.json.Decoder(dict[str, Any]).decode
decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
decode_raw = msgspec.json.Decoder(Raw).decode
decode_items = msgspec.json.Decoder(list[Raw]).decode
encode = msgspec.json.Encoder().encode


def guard_recursion(parse: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a parser. Raises InvalidRequest if the body is nested too deeply for it."""
    try:
        return parse(*args, **kwargs)
    except RecursionError:
        raise InvalidRequest(TOO_DEEP_MESSAGE) from None


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a client's body. Raises InvalidRequest for any other body."""
    if not body.strip():
        raise InvalidRequest("The request has no body.")
    try:
        if not body.isascii():
            body.decode()
        return decode_object(body)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from None
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start} is not valid there.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {error}.") from None
    except ValueError:
        raise InvalidRequest("The body contains a number that is out of range.") from None
    except RecursionError:
        raise InvalidRequest(TOO_DEEP_MESSAGE) from None


def convert_json(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """Convert a decoded value to this type. Raises InvalidRequest if it has another type.

    Nested values whose type is Any are not copied.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from None


def invalid_field(error: msgspec.ValidationError) -> InvalidRequest:
    """Return the error for the client. It contains the path of the field if msgspec reports it."""
    reason, _, where = str(error).partition(" - at `$")
    param = where.rstrip("`").lstrip(".")
    if not param or param.startswith("["):
        return InvalidRequest(f"{reason}.")
    return InvalidRequest(f"{reason} in the field {param}.", param)


def contains_any(body: bytes, needles: Iterable[bytes]) -> bool:
    """Return whether a JSON body may contain one of these words.

    The result is also true if the body contains escaped ASCII letters, because they may hide a word. Common
    encoders do not escape ASCII letters.
    """
    return any(word in body for word in needles) or ESCAPED_ASCII_LETTER.search(body) is not None


def decode_lenient(decoder: Callable[[bytes], T], body: bytes) -> T:
    """Decode a provider's data for counting, with lone surrogates and invalid bytes replaced.

    Raises one of DECODE_ERRORS.
    """
    try:
        return decoder(body)
    except DECODE_ERRORS:
        return decoder(
            LONE_SURROGATE.sub(rb"\\ufffd", body.removeprefix(BOM).decode(errors="replace").encode())
        )


def repair_json(data: bytes) -> bytes:
    """Return a provider's JSON with lone surrogates and invalid bytes replaced.

    Servers that split a character between two tokens send such data. Only that character is lost.
    """
    data = data.removeprefix(BOM)
    if not data.isascii():
        data = data.decode(errors="replace").encode()
    if b"\\ud" in data or b"\\uD" in data:
        return JSON_ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], data)
    return data


def is_json_document(data: bytes) -> bool:
    """Return whether a provider's body is a complete JSON object or list.

    NaN is accepted, although it is not JSON: some servers send it, and many clients accept it.
    """
    document = repair_json(data).strip()
    try:
        decode_raw(document)
    except DECODE_ERRORS:
        return is_python_json(document)
    return document.startswith((b"{", b"["))


def is_python_json(document: bytes) -> bool:
    """Return whether Python's decoder accepts an object or a list. Unlike msgspec, it accepts NaN."""
    try:
        return isinstance(json.loads(document), dict | list)
    except (ValueError, RecursionError):
        return False


def decode_available_fields(data: bytes) -> dict[str, Any]:
    """Return the fields of a provider's JSON object. Fields that cannot be decoded are None.

    For example, a number that is out of range makes only its own field None. Raises one of DECODE_ERRORS if
    the bytes are not an object.
    """
    data = repair_json(data)
    try:
        return decode_object(data)
    except DECODE_ERRORS:
        return {name: decode_value(raw) for name, raw in decode_fields(data).items()}


def decode_value(raw: Raw) -> Any:
    """Return the value of a field, or None if it cannot be decoded."""
    try:
        return decode_any(raw)
    except DECODE_ERRORS:
        return None


def replace_fields(body: bytes, fields: dict[str, Any], removed: Collection[str] = ()) -> bytes:
    """Return the JSON object with some fields set and others removed. Other fields keep their bytes."""
    kept: dict[str, Any] = {name: raw for name, raw in decode_fields(body).items() if name not in removed}
    return encode(kept | fields)


def set_model(body: bytes, model: str) -> bytes:
    """Return a client's body with the model that the URL names. Raises InvalidRequest."""
    parse_object(body)
    return replace_fields(body, {"model": model})


Change = dict[str, Any] | None
"""A change of one object: the fields to set, with None for a field to remove. None removes the object."""


def change_items(items: bytes, changes: Mapping[int, Change]) -> list[Raw]:
    """Return the items of a JSON list after applying these changes. Each key is the position of an item.

    All other bytes stay unchanged.
    """
    changed = ((item, changes.get(position, {})) for position, item in enumerate(decode_items(items)))
    return [change_object(item, change) if change else item for item, change in changed if change is not None]


def change_object(item: bytes, change: Mapping[str, Any]) -> Raw:
    fields: dict[str, Any] = decode_fields(item) | dict(change)
    return Raw(encode({name: value for name, value in fields.items() if value is not None}))


def change_nested(items: bytes, inner: str, changes: Mapping[int, Mapping[int, Change]]) -> list[Raw]:
    """Return the items of a JSON list with changes of the objects in their list `inner`.

    If all objects of that list are removed, the item is removed too. A single object counts as a list of one.
    """
    items = list_bytes(items)
    raw, changed = decode_items(items), dict[int, Change]()
    for position, found in changes.items():
        kept = change_items(list_bytes(decode_fields(raw[position])[inner]), found)
        changed[position] = {inner: kept} if kept else None
    return change_items(items, changed)


def list_bytes(value: bytes) -> bytes:
    """Return a JSON list unchanged, and an object as a list of one."""
    value = bytes(value)
    return b"[%b]" % value if value.lstrip().startswith(b"{") else value


# Values of any type -------------------------------------------------------------------------------


def as_str(value: Any) -> str:
    """Return a string unchanged, and an empty string for any other value."""
    return value if isinstance(value, str) else ""


def as_dict(value: Any) -> dict[str, Any]:
    """Return an object unchanged, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list unchanged, and an empty one for any other value."""
    return value if isinstance(value, list) else []


def as_objects(value: Any) -> list[Any]:
    """Return a list unchanged, an object as a list of one, and an empty list for any other value."""
    return [value] if isinstance(value, dict) else as_list(value)


def dict_items(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list, without other items; an empty list for any other value."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

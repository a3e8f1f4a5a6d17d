"""Conversion of Google's schemas to JSON Schema.

Google's schemas are a subset of OpenAPI 3.0 (ai.google.dev/api/caching#Schema).

The other direction needs no conversion, because Google accepts JSON Schema in `parametersJsonSchema` and
`responseJsonSchema`.
"""

from typing import Any

from proxy.formats.gemini.wire import to_camel_case

INTEGER_KEYWORDS = frozenset(
    ["maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"]
)
"""Keywords whose value is a 64-bit integer. In JSON, protocol buffers write such integers as strings."""
MAPS_OF_SCHEMAS = frozenset(("properties", "$defs", "definitions", "patternProperties"))
JSON_SCHEMA_NAMES = {"defs": "$defs", "ref": "$ref"}


def to_json_schema(schema: Any) -> Any:
    """Convert a schema: types to lower case, `nullable` to the type null, and counts to numbers."""
    if isinstance(schema, list):
        return [to_json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    fields = {JSON_SCHEMA_NAMES.get(name, to_camel_case(name)): item for name, item in schema.items()}
    fields.pop("propertyOrdering", None)
    nullable = fields.pop("nullable", False)
    converted = {name: convert_keyword(name, item) for name, item in fields.items()}
    if converted.get("type") == "type_unspecified":
        del converted["type"]
    return allow_null(converted) if nullable is True else converted


def convert_keyword(name: str, item: Any) -> Any:
    match item:
        case str() if name == "type":
            return item.lower()
        case str() if name in INTEGER_KEYWORDS and item.isdecimal() and len(item) < 20:
            return int(item)
        case dict() if name in MAPS_OF_SCHEMAS:
            return {key: to_json_schema(value) for key, value in item.items()}
        case _ if name in ("enum", "default", "example", "required", "const"):
            return item
        case _:
            return to_json_schema(item)


def allow_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema

"""Google's schemas (ai.google.dev/api/caching#Schema, a subset of OpenAPI 3.0) as JSON Schema.

The way back needs no words: Google takes JSON Schema as it is in `parametersJsonSchema` and `responseJsonSchema`.
"""

import re
from functools import lru_cache
from typing import Any

VERBATIM = frozenset(
    (
        "args",
        "headers",
        "labels",
        "metadata",
        "parameters",
        "parametersJsonSchema",
        "response",
        "responseJsonSchema",
        "responseSchema",
        "_responseJsonSchema",
    )
)
"""Fields whose content is the client's own, names and all."""
COUNTS = frozenset(["maxItems", "minItems", "maxLength", "minLength", "maxProperties", "minProperties"])
"""64-bit integers, which protocol buffers write as strings."""
NAMED_SCHEMAS = frozenset(("properties", "$defs", "definitions", "patternProperties"))
DEFINITIONS = {"defs": "$defs", "ref": "$ref"}


@lru_cache(maxsize=1024)
def camel(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), name)


def camelled(value: Any) -> Any:
    """The same JSON with its fields in camelCase, which is how this package reads it; what is the client's own stays as it is."""
    match value:
        case dict():
            fields = ((camel(name), item) for name, item in value.items())
            return {name: item if name in VERBATIM else camelled(item) for name, item in fields}
        case list():
            return [camelled(item) for item in value]
        case _:
            return value


def json_schema(schema: Any) -> Any:
    """Lower-case types, null as a type, counts as numbers."""
    if isinstance(schema, list):
        return [json_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    fields = {DEFINITIONS.get(name, camel(name)): item for name, item in schema.items()}
    fields.pop("propertyOrdering", None)
    nullable = fields.pop("nullable", False)
    converted = {name: convert(name, item) for name, item in fields.items()}
    if converted.get("type") == "type_unspecified":
        del converted["type"]
    return allow_null(converted) if nullable is True else converted


def convert(name: str, item: Any) -> Any:
    match item:
        case str() if name == "type":
            return item.lower()
        case str() if name in COUNTS and item.isdecimal() and len(item) < 20:
            return int(item)
        case dict() if name in NAMED_SCHEMAS:
            return {key: json_schema(value) for key, value in item.items()}
        case _ if name in ("enum", "default", "example", "required", "const"):
            return item
        case _:
            return json_schema(item)


def allow_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    if isinstance(schema.get("enum"), list) and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    return schema

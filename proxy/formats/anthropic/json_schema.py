"""Adapt JSON Schemas to this API, for tools and for structured output."""

from typing import Any

UNSUPPORTED_KEYWORDS = frozenset(
    (
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "maxItems",
        "uniqueItems",
    )
)
"""Keywords that structured output rejects.

Like the vendor's SDKs, the gateway adds them to the description of the schema (platform.claude.com/docs,
"Structured outputs", "JSON Schema limitations").
"""
MAPS_OF_SCHEMAS = frozenset(("properties", "$defs", "definitions", "patternProperties"))
LITERAL_KEYWORDS = frozenset(("enum", "const", "default", "examples", "required"))


def input_schema(schema: dict[str, Any] | None) -> dict[str, Any]:
    """Return the schema of a tool's input. A tool without a schema takes no input."""
    return schema or {"type": "object", "properties": {}}


def output_schema(schema: Any) -> Any:
    """Return a copy of the schema in which every object is closed.

    Structured output requires `additionalProperties: false` in each object.
    """
    match schema:
        case list():
            return [output_schema(item) for item in schema]
        case dict():
            return close_object(
                {
                    ("anyOf" if name == "oneOf" else name): convert_keyword(name, value)
                    for name, value in schema.items()
                }
            )
        case _:
            return schema


def convert_keyword(name: str, value: Any) -> Any:
    if name in LITERAL_KEYWORDS:
        return value
    if name in MAPS_OF_SCHEMAS and isinstance(value, dict):
        return {key: output_schema(item) for key, item in value.items()}
    return output_schema(value)


def close_object(schema: dict[str, Any]) -> dict[str, Any]:
    kind = schema.get("type")
    if (
        kind == "object"
        or (isinstance(kind, list) and "object" in kind)
        or (kind is None and "properties" in schema)
    ):
        schema["additionalProperties"] = False
    unsupported = {
        name: schema.pop(name)
        for name in [*schema]
        if name in UNSUPPORTED_KEYWORDS or (name == "minItems" and schema[name] not in (0, 1))
    }
    if unsupported:
        limits = ", ".join(f"{name}: {value}" for name, value in unsupported.items())
        schema["description"] = f"{schema.get('description') or ''} ({limits})".lstrip()
    return schema

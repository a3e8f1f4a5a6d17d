"""JSON Schema in the form that this API accepts, for tools and for structured output."""

from typing import Any

from proxy.formats.neutral import UnsupportedFeature

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
"""Keywords that structured output rejects (platform.claude.com/docs, "Structured outputs", "JSON Schema
limitations"). Like the vendor's SDKs, the gateway states them in the description of the schema."""
MAPS_OF_SCHEMAS = frozenset(("properties", "$defs", "definitions", "patternProperties"))
LITERAL_KEYWORDS = frozenset(("enum", "const", "default", "examples", "required"))


def input_schema(schema: dict[str, Any] | None, tool: str) -> dict[str, Any]:
    """Return the schema of a tool's input, which is always an object. Raises UnsupportedFeature."""
    if not schema:
        return {"type": "object", "properties": {}}
    match schema.get("type"):
        case "object":
            return schema
        case None:
            return {**schema, "type": "object"}
        case [*types] if "object" in types:
            return schema | {"type": "object"}
        case other:
            raise UnsupportedFeature(
                f"The parameters of the tool {tool} must be an object, not {other!r}.", "tools"
            )


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

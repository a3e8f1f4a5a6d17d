"""Building blocks of JSON Schemas, for the parameters of typed tools."""

from typing import Any

Schema = dict[str, Any]


def parameters(*required: str, **properties: Schema) -> Schema:
    """Return the schema of an object.

    `required` is omitted if it is empty, because early drafts of JSON Schema do not allow an empty list.
    """
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed}


def text(description: str = "") -> Schema:
    """Return the schema of a string."""
    return described({"type": "string"}, description)


def integer(description: str = "") -> Schema:
    """Return the schema of a whole number."""
    return described({"type": "integer"}, description)


def integers(length: int, description: str = "") -> Schema:
    """Return the schema of a list with this number of whole numbers."""
    items = {"type": "array", "items": integer(), "minItems": length, "maxItems": length}
    return described(items, description)


def choice(*values: str) -> Schema:
    """Return the schema of one of these strings."""
    return {"type": "string", "enum": list(values)}


def described(schema: Schema, description: str) -> Schema:
    return schema | ({"description": description} if description else {})

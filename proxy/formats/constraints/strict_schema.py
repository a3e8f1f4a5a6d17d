"""Checks whether a vendor can enforce a schema: OpenAI's subset for `strict`, and Anthropic's limits.

Sources: platform.openai.com/docs/guides/structured-outputs ("Supported schemas"),
platform.claude.com/docs/en/build-with-claude/structured-outputs ("Schema complexity limits").
"""

from collections.abc import Iterator
from typing import Any

from proxy.formats.constraints.schemas import Schema, rewrite, types_of
from proxy.formats.json_body import as_list

NUMBER_KEYWORDS = frozenset(("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"))
CONTAINER_KEYWORDS = frozenset(
    ("properties", "required", "additionalProperties", "items", "minItems", "maxItems")
)
REFERENCE_KEYWORDS = frozenset(("$ref", "$defs", "definitions", "$schema"))
PLAIN_KEYWORDS = frozenset(("type", "enum", "const", "anyOf", "description", "title", "pattern", "format"))
KEYWORDS = PLAIN_KEYWORDS | NUMBER_KEYWORDS | CONTAINER_KEYWORDS | REFERENCE_KEYWORDS
MAX_DEPTH, MAX_PROPERTIES, MAX_NAME_LENGTHS, MAX_ENUM_VALUES = 10, 5000, 120_000, 1000
MAX_LONG_ENUM, MAX_LONG_ENUM_LENGTH = 250, 15_000
MAX_OPTIONAL_PARAMETERS, MAX_UNION_PARAMETERS = 24, 16
SCHEMA_WITH_TYPE = ("type", "anyOf", "$ref")


def is_strict(schema: Any) -> bool:
    """Return whether OpenAI can enforce a schema.

    In such a schema, every object forbids additional properties and requires all its properties.
    """
    if not isinstance(schema, dict) or types_of(schema) != ("object",) or "anyOf" in schema:
        return False
    inner = list(schemas_in(schema))
    return all(map(is_in_subset, inner)) and depth(schema) <= MAX_DEPTH and is_within_sizes(inner)


def schemas_in(schema: Any) -> Iterator[Schema]:
    """Return all schemas in a schema, at every depth."""
    found: list[Schema] = []

    def collect(inner: Schema) -> Schema:
        found.append(inner)
        return inner

    rewrite(schema, collect)
    return iter(found)


def is_in_subset(schema: Schema) -> bool:
    """Return whether a schema is in OpenAI's subset. Its inner schemas are not checked."""
    if "$ref" in schema:
        return schema.keys() <= {"$ref", "$defs", "definitions"}
    if not schema.keys() <= KEYWORDS or not any(name in schema for name in SCHEMA_WITH_TYPE):
        return False
    if "array" in types_of(schema) and not isinstance(schema.get("items"), dict):
        return False
    return "object" not in types_of(schema) or is_closed(schema)


def is_closed(schema: Schema) -> bool:
    properties, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return False
    return schema.get("additionalProperties") is False and set(properties) == set(map(str, required))


def depth(schema: Any) -> int:
    """Return the depth of nested objects in a schema."""
    if isinstance(schema, list):
        return max(map(depth, schema), default=0)
    if not isinstance(schema, dict):
        return 0
    return ("properties" in schema) + max(map(depth, schema.values()), default=0)


def is_within_sizes(schemas: list[Schema]) -> bool:
    """Return whether the schemas together are within OpenAI's limits of sizes."""
    names = [key for schema in schemas for key in keys_of(schema, "properties")]
    definitions = [key for schema in schemas for key in keys_of(schema, "$defs", "definitions")]
    enums = [schema["enum"] for schema in schemas if isinstance(schema.get("enum"), list)]
    lengths = sum(map(len, (*names, *definitions))) + sum(map(enum_length, enums))
    return (
        len(names) <= MAX_PROPERTIES
        and lengths <= MAX_NAME_LENGTHS
        and sum(map(len, enums)) <= MAX_ENUM_VALUES
        and not any(
            len(values) > MAX_LONG_ENUM and enum_length(values) > MAX_LONG_ENUM_LENGTH for values in enums
        )
    )


def keys_of(schema: Schema, *keywords: str) -> list[str]:
    """Return the keys of the maps under these keywords."""
    found = [schema.get(keyword) for keyword in keywords]
    return [key for value in found if isinstance(value, dict) for key in value]


def enum_length(values: list[Any]) -> int:
    return sum(len(str(value)) for value in values)


# Anthropic ----------------------------------------------------------------------------------------


def is_recursive(schema: Any) -> bool:
    """Return whether a definition in a schema refers to itself, directly or through other definitions."""
    if not isinstance(schema, dict):
        return False
    uses = {
        f"#/{place}/{name}": references_in(schema[place][name])
        for place in ("$defs", "definitions")
        for name in keys_of(schema, place)
    }
    uses["#"] = references_in(schema) if "#" in references_in(schema) else set()
    return any(name in reachable(name, uses) for name in uses)


def references_in(schema: Any) -> set[str]:
    return {str(inner["$ref"]) for inner in schemas_in(schema) if "$ref" in inner}


def reachable(start: str, uses: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*uses.get(start, ())]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += uses.get(name, ())
    return found


def optional_parameters(schema: Any) -> int:
    """Return the number of properties in a schema that are not required."""
    return sum(
        len({*keys_of(inner, "properties")} - {*map(str, as_list(inner.get("required")))})
        for inner in schemas_in(schema)
    )


def union_parameters(schema: Any) -> int:
    """Return the number of schemas in a schema that allow several types."""
    return sum(is_union(inner) for inner in schemas_in(schema))


def is_union(schema: Schema) -> bool:
    return "anyOf" in schema or "oneOf" in schema or len(types_of(schema)) > 1

"""Checks of JSON Schemas for what vendors reject, without the gateway's code."""

from collections.abc import Iterator
from typing import Any

SCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
SUBSCHEMAS = (
    *("anyOf", "oneOf", "allOf", "prefixItems", "items", "additionalProperties", "not", "if", "then", "else"),
    *("contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems"),
)
STRICT_KEYWORDS = {
    *("type", "enum", "const", "anyOf", "properties", "required", "additionalProperties", "items", "$ref"),
    *("$defs", "definitions", "$schema", "description", "title", "pattern", "format", "multipleOf"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
}


JSON_TYPES = {"string", "number", "integer", "boolean", "object", "array", "null"}


def walk(schema: Any, level: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each schema within a schema, with the number of objects in which it is nested."""
    if isinstance(schema, list):
        for item in schema:
            yield from walk(item, level)
    if not isinstance(schema, dict):
        return
    yield schema, level
    deeper = level + ("properties" in schema)
    for name in SCHEMA_MAPS:
        if isinstance(schema.get(name), dict):
            for item in schema[name].values():
                yield from walk(item, deeper)
    for name in SUBSCHEMAS:
        yield from walk(schema.get(name), deeper)


def is_type(schema: dict[str, Any], name: str) -> bool:
    kinds = schema.get("type")
    return kinds == name or (isinstance(kinds, list) and name in kinds)


def object_without_properties(schema: Any) -> list[str]:
    return [
        "object schema missing properties"
        for inner, _ in walk(schema)
        if is_type(inner, "object") and not isinstance(inner.get("properties"), dict)
    ]


def array_without_items(schema: Any) -> list[str]:
    return [
        "array schema missing items"
        for inner, _ in walk(schema)
        if is_type(inner, "array") and "items" not in inner
    ]


def lone_references(schema: Any) -> list[str]:
    return [
        f"{sorted(inner)} beside $ref"
        for inner, _ in walk(schema)
        if "$ref" in inner and any(not name.startswith("$") for name in inner)
    ]


def outside_of_draft(schema: Any) -> list[str]:
    """Return the errors that a validator for draft 2020-12 finds."""
    return [problem for inner, _ in walk(schema) for problem in draft_problems(inner)]


def draft_problems(schema: dict[str, Any]) -> Iterator[str]:
    nulls = {name for name in schema if schema[name] is None} - {
        "const",
        "default",
        "enum",
        "example",
        "examples",
    }
    if nulls:
        yield f"null for {sorted(nulls)}"
    kinds = schema.get("type", "object")
    if not set(kinds if isinstance(kinds, list) else [kinds]) <= JSON_TYPES:
        yield f"the type {kinds}"
    if isinstance(schema.get("items"), list):
        yield "a list of items"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield f"required: {required}"
    if isinstance(schema.get("exclusiveMinimum"), bool) or isinstance(schema.get("exclusiveMaximum"), bool):
        yield "a boolean exclusive bound"
    for name in SCHEMA_MAPS:
        held = schema.get(name, {})
        if not isinstance(held, dict) or not all(isinstance(item, dict | bool) for item in held.values()):
            yield f"a value of {name} that is not a schema"


def property_names(schema: Any) -> list[str]:
    return [key for inner, _ in walk(schema) for key in keys(inner, "properties")]


def keys(schema: dict[str, Any], name: str) -> list[str]:
    value = schema.get(name)
    return list(value) if isinstance(value, dict) else []


def outside_of_subset(schema: Any) -> Iterator[str]:
    """Yield what OpenAI rejects in a strict schema."""
    if not isinstance(schema, dict) or schema.get("type") != "object" or "anyOf" in schema:
        yield "the root is not an object"
        return
    for inner, level in walk(schema):
        if level > 10:
            yield "more than 10 levels"
        if unknown := set(inner) - STRICT_KEYWORDS:
            yield f"{sorted(unknown)} is not permitted"
        if "$ref" in inner:
            if set(inner) - {"$ref", "$defs", "definitions"}:
                yield f"$ref cannot have keywords {sorted(inner)}"
            continue
        if not {"type", "anyOf"} & set(inner):
            yield "schema must have a type"
        if is_type(inner, "object"):
            if inner.get("additionalProperties") is not False:
                yield "additionalProperties must be false"
            if set(keys(inner, "properties")) != set(inner.get("required") or []):
                yield "required must include every property"
        if is_type(inner, "array") and not isinstance(inner.get("items"), dict):
            yield "array schema missing items"
    yield from too_large(schema)


def too_large(schema: Any) -> Iterator[str]:
    names = property_names(schema)
    enums = [inner["enum"] for inner, _ in walk(schema) if isinstance(inner.get("enum"), list)]
    if len(names) > 5000 or sum(map(len, enums)) > 1000:
        yield "too many properties or values"
    if sum(map(len, names)) + sum(len(str(value)) for values in enums for value in values) > 120_000:
        yield "names and values of more than 120,000 characters"


def compiled_limits(schemas: list[Any]) -> Iterator[str]:
    """Yield what Anthropic rejects in strict tools and the response schema together."""
    inner = [found for schema in schemas for found, _ in walk(schema)]
    optional = sum(len(set(keys(found, "properties")) - set(found.get("required") or [])) for found in inner)
    unions = sum("anyOf" in found or isinstance(found.get("type"), list) for found in inner)
    if optional > 24:
        yield f"{optional} optional parameters"
    if unions > 16:
        yield f"{unions} parameters with union types"
    if any(has_cycle(schema) for schema in schemas):
        yield "a recursive schema"


def has_cycle(schema: Any) -> bool:
    definitions = {
        f"#/{place}/{name}": inner
        for place in ("$defs", "definitions")
        for name, inner in (schema.get(place) or {}).items()
    }
    return any(reaches(name, definitions, frozenset()) for name in definitions)


def reaches(name: str, definitions: dict[str, Any], passed: frozenset[str]) -> bool:
    if name in passed:
        return True
    targets = [inner["$ref"] for inner, _ in walk(definitions.get(name)) if "$ref" in inner]
    return any(reaches(target, definitions, passed | {name}) for target in targets if target in definitions)

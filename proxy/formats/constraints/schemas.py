"""JSON Schemas of tools and responses, rewritten into what vendors accept, at every depth."""

from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE_SCHEMAS = (
    "items",
    "additionalProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "propertyNames",
    "contains",
    "not",
    "if",
    "then",
    "else",
)
WRAPPED_PROPERTY = "value"
"""Property that holds the arguments of a tool whose schema is not an object."""


def rewrite(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Return a copy of a schema in which `change` has replaced every schema, the inner ones first.

    Lists and values that are not schemas stay, such as `enum`, `default` and `required`.
    """
    if isinstance(schema, list):
        return [rewrite(item, change) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return change({name: rewrite_keyword(name, value, change) for name, value in schema.items()})


def rewrite_keyword(name: str, value: Any, change: Callable[[Schema], Schema]) -> Any:
    if name in MAPS_OF_SCHEMAS and isinstance(value, dict):
        return {key: rewrite(item, change) for key, item in value.items()}
    if name in LISTS_OF_SCHEMAS or name in SINGLE_SCHEMAS:
        return rewrite(value, change)
    return value


def types_of(schema: Schema) -> tuple[str, ...]:
    """Return the types that a schema names."""
    kinds = schema.get("type")
    return (kinds,) if isinstance(kinds, str) else tuple(kinds) if isinstance(kinds, list) else ()


def with_properties(schema: Schema) -> Schema:
    """Return an object schema with `properties`, which are empty if it had none."""
    if "object" in types_of(schema) and not isinstance(schema.get("properties"), dict):
        return {**schema, "properties": {}}
    return schema


def with_items(schema: Schema) -> Schema:
    """Return an array schema with `items`, which allow anything if it had none."""
    return {**schema, "items": {}} if "array" in types_of(schema) and "items" not in schema else schema


# The top level ------------------------------------------------------------------------------------


def is_object(schema: Schema) -> bool:
    """Return whether a schema allows an object; one without a type may."""
    kinds = types_of(schema)
    return "object" in kinds or (not kinds and not is_other_type(schema))


def is_other_type(schema: Schema) -> bool:
    """Return whether the branches of a schema without a type all name another type than an object."""
    branches = [branch for name in ("anyOf", "oneOf") for branch in schema.get(name) or ()]
    kinds = [types_of(branch) for branch in branches if isinstance(branch, dict)]
    return bool(kinds) and all(found and "object" not in found for found in kinds)


def wrapped(schema: Schema) -> Schema:
    """Return the schema of an object whose only property has this schema."""
    definitions: Schema = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in definitions}
    properties = {WRAPPED_PROPERTY: inner}
    return {"type": "object", "properties": properties, "required": [WRAPPED_PROPERTY], **definitions}


def without_top_level(schema: Schema, keywords: frozenset[str]) -> Schema:
    """Return the schema without these keywords at its top level; their properties are merged into it.

    What the merged schema cannot express is added to its description: the model can still follow it.
    """
    found = {name: schema[name] for name in schema if name in keywords}
    if not found:
        return schema
    rest = {name: value for name, value in schema.items() if name not in found}
    merged = merge_alternatives(merge_all(rest, found.get("allOf"), schema), found, schema)
    return described(merged, found)


def merge_all(target: Schema, branches: Any, root: Schema) -> Schema:
    """Merge the branches of `allOf`: all of their properties, and all that they require."""
    for branch in resolved_branches(branches, root):
        target = {
            **target,
            "properties": {**target.get("properties", {}), **branch.get("properties", {})},
            "required": unique([*target.get("required", ()), *branch.get("required", ())]),
        }
    return target


def merge_alternatives(target: Schema, found: Schema, root: Schema) -> Schema:
    """Merge the branches of `anyOf` and `oneOf`: all of their properties, and what every one requires."""
    for name in ("anyOf", "oneOf"):
        branches = resolved_branches(found.get(name), root)
        if not branches:
            continue
        properties = dict(target.get("properties", {}))
        for branch in branches:
            for key, schema in branch.get("properties", {}).items():
                properties[key] = either(properties[key], schema) if key in properties else schema
        common = [key for key in branches[0].get("required", ()) if requires(branches, key)]
        required = unique([*target.get("required", ()), *common])
        target = {**target, "properties": properties, **({"required": required} if required else {})}
    return target


def requires(branches: list[Schema], key: str) -> bool:
    return all(key in branch.get("required", ()) for branch in branches)


def either(one: Any, other: Any) -> Any:
    """Return a schema for values of either; constants become one enumeration."""
    if one == other:
        return one
    values = [constants(one), constants(other)]
    if all(values):
        kind = {"type": one["type"]} if one.get("type") == other.get("type") and "type" in one else {}
        return {**kind, "enum": unique([*values[0], *values[1]])}
    branches = one["anyOf"] if isinstance(one, dict) and one.keys() == {"anyOf"} else [one]
    return one if other in branches else {"anyOf": [*branches, other]}


def constants(schema: Any) -> list[Any]:
    """Return the values that a schema allows, if it lists them."""
    match schema:
        case {"const": value}:
            return [value]
        case {"enum": [*values]}:
            return values
        case _:
            return []


def resolved_branches(branches: Any, root: Schema) -> list[Schema]:
    found = [resolve(branch, root) for branch in branches if isinstance(branch, dict)] if branches else []
    return [branch for branch in found if isinstance(branch.get("properties", {}), dict)]


def resolve(schema: Schema, root: Schema) -> Schema:
    """Return the definition that a schema refers to; the schema itself if it refers to none in this root."""
    match str(schema.get("$ref", "")).split("/"):
        case ["#", ("$defs" | "definitions") as place, name]:
            definition = root.get(place, {}).get(name)
            return definition if isinstance(definition, dict) else schema
        case _:
            return schema


def described(schema: Schema, lost: Schema) -> Schema:
    """Return the schema with the keywords that were removed from it in its description."""
    return {**schema, "description": f"{schema.get('description') or ''} {condition(lost)}".strip()}


def condition(keywords: Schema) -> str:
    """Return a sentence that tells the model which rules the arguments must follow."""
    rules = [f"{name}: {summary(value)}" for name, value in keywords.items()]
    return f"The arguments must also match {'; '.join(rules)}."


def summary(value: Any) -> str:
    """Return what the branches of a keyword require, as short as that can be said."""
    if not isinstance(value, list) or not all(isinstance(branch, dict) for branch in value):
        return str(value)
    return " | ".join(f"({branch_summary(branch)})" for branch in value)


def branch_summary(branch: Schema) -> str:
    names = branch.get("required") or branch.get("properties") or (branch.get("title", "..."),)
    return ", ".join(map(str, names))


def unique(values: list[Any]) -> list[Any]:
    """Return the values without repetitions; they need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


# References ---------------------------------------------------------------------------------------


def with_lone_references(schema: Schema) -> Schema:
    """Return the schema in which nothing stands beside a `$ref`: the definition takes its place."""

    def expand(found: Schema) -> Schema:
        siblings = {name: value for name, value in found.items() if not name.startswith("$")}
        if "$ref" not in found or not siblings:
            return found
        definition = resolve(found, schema)
        return {"$ref": found["$ref"]} if definition is found else {**definition, **siblings}

    expanded: Schema = rewrite(schema, expand)
    return expanded

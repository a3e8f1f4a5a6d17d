"""Rewriting of the JSON Schemas of tools and responses, at every depth, so that vendors accept them."""

from collections.abc import Callable
from typing import Any

from proxy.formats.json_body import as_dict, as_list, dict_items

Schema = dict[str, Any]

MAPS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE_SCHEMAS = (
    "items",
    "additionalItems",
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
VALUE_KEYWORDS = frozenset(("const", "default", "enum", "example", "examples"))
"""Keywords for which null is a valid value."""
EXCLUSIVE_BOUNDS = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}
CHECKED_KEYWORDS = frozenset((*MAPS_OF_SCHEMAS, "required", "type"))
TYPES = frozenset(("string", "number", "integer", "boolean", "object", "array", "null"))
WRAPPED_PROPERTY = "value"
"""The property that contains the arguments of a tool whose schema does not describe an object."""


def rewrite(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """Return a copy of a schema in which `change` has replaced every schema, the inner ones first.

    Lists and values that are not schemas stay unchanged, such as `enum`, `default` and `required`.
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
    """Return the types that a schema allows."""
    kinds = schema.get("type")
    return (kinds,) if isinstance(kinds, str) else tuple(kinds) if isinstance(kinds, list) else ()


def properties_of(schema: Schema) -> Schema:
    """Return the properties of an object schema by name; empty if the schema has no valid properties."""
    return as_dict(schema.get("properties"))


def required_names(schema: Schema) -> list[str]:
    """Return the names of the properties that an object schema requires."""
    return [name for name in as_list(schema.get("required")) if isinstance(name, str)]


def with_properties(schema: Schema) -> Schema:
    """Return a schema. If it describes an object and has no `properties`, add empty ones."""
    if "object" in types_of(schema) and not isinstance(schema.get("properties"), dict):
        return {**schema, "properties": {}}
    return schema


def with_items(schema: Schema) -> Schema:
    """Return a schema. If it describes an array and has no `items`, add `items` that allow anything."""
    return {**schema, "items": {}} if "array" in types_of(schema) and "items" not in schema else schema


# Older drafts -------------------------------------------------------------------------------------


def in_current_draft(schema: Schema) -> Schema:
    """Return a schema in the form of the current draft, without invalid keywords.

    JSON Schema 2020-12 has `prefixItems` instead of a list of `items`, and exclusive bounds are numbers and
    not booleans.
    """
    found = {
        name: current_value(name, value) if name in CHECKED_KEYWORDS else value
        for name, value in schema.items()
    }
    found = {name: value for name, value in found.items() if value is not None or name in VALUE_KEYWORDS}
    if isinstance(found.get("items"), list):
        found["prefixItems"] = found.pop("items")
        found |= {"items": found.pop("additionalItems")} if "additionalItems" in found else {}
    for exclusive, bound in EXCLUSIVE_BOUNDS.items():
        if isinstance(found.get(exclusive), bool) and found.pop(exclusive) and bound in found:
            found[exclusive] = found.pop(bound)
    return found


def current_value(keyword: str, value: Any) -> Any:
    """Return the valid part of the value of a keyword; None if no part is valid."""
    if keyword == "required":
        return unique([name for name in value if isinstance(name, str)]) if isinstance(value, list) else None
    if keyword != "type":
        return {key: item for key, item in as_dict(value).items() if isinstance(item, dict | bool)}
    kinds = value if isinstance(value, list) else [value]
    known = unique([kind for kind in (str(kind).lower() for kind in kinds) if kind in TYPES])
    if not known:
        return None
    return known if isinstance(value, list) else known[0]


# The top level ------------------------------------------------------------------------------------


def is_object(schema: Schema) -> bool:
    """Return whether a schema allows an object. A schema without a type may allow one."""
    kinds = types_of(schema)
    return "object" in kinds or (not kinds and not is_other_type(schema))


def is_other_type(schema: Schema) -> bool:
    """Return whether a schema has no type, and all of its branches name types other than an object."""
    branches = [branch for name in ("anyOf", "oneOf") for branch in dict_items(schema.get(name))]
    kinds = [types_of(branch) for branch in branches]
    return bool(kinds) and all(found and "object" not in found for found in kinds)


def wrapped(schema: Schema) -> Schema:
    """Return the schema of an object whose only property has this schema."""
    definitions: Schema = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    inner = {name: value for name, value in schema.items() if name not in definitions}
    properties = {WRAPPED_PROPERTY: inner}
    return {"type": "object", "properties": properties, "required": [WRAPPED_PROPERTY], **definitions}


def without_top_level(schema: Schema, keywords: frozenset[str]) -> Schema:
    """Return the schema without these keywords at its top level, and merge their branches into it.

    Rules that the merged schema cannot express are added to its description, so that the model can follow
    them.
    """
    found = {name: schema[name] for name in schema if name in keywords}
    if not found:
        return schema
    rest = {name: value for name, value in schema.items() if name not in found}
    merged = merge_alternatives(merge_all(rest, found.get("allOf"), schema), found, schema)
    return described(merged, found)


def merge_all(target: Schema, branches: Any, root: Schema) -> Schema:
    """Merge the branches of `allOf`: all their properties, and everything that any branch requires."""
    for branch in resolved_branches(branches, root):
        target = {
            **target,
            "properties": properties_of(target) | properties_of(branch),
            "required": unique([*required_names(target), *required_names(branch)]),
        }
    return target


def merge_alternatives(target: Schema, found: Schema, root: Schema) -> Schema:
    """Merge the branches of `anyOf` and `oneOf`.

    All their properties are added. Only properties that every branch requires are required.
    """
    for name in ("anyOf", "oneOf"):
        branches = resolved_branches(found.get(name), root)
        if not branches:
            continue
        properties = {**properties_of(target)}
        for branch in branches:
            for key, schema in properties_of(branch).items():
                properties[key] = either(properties[key], schema) if key in properties else schema
        common = [key for key in required_names(branches[0]) if requires(branches, key)]
        required = unique([*required_names(target), *common])
        target = {**target, "properties": properties, **({"required": required} if required else {})}
    return target


def requires(branches: list[Schema], key: str) -> bool:
    return all(key in required_names(branch) for branch in branches)


def either(one: Any, other: Any) -> Any:
    """Return a schema that allows the values of either schema.

    Two lists of constants become one enumeration.
    """
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
    return [resolve(branch, root) for branch in dict_items(branches)]


def resolve(schema: Schema, root: Schema) -> Schema:
    """Return the definition that a schema refers to, or the schema if `root` has no such definition."""
    match str(schema.get("$ref", "")).split("/"):
        case ["#", ("$defs" | "definitions") as place, name]:
            definition = as_dict(root.get(place)).get(name)
            return definition if isinstance(definition, dict) else schema
        case _:
            return schema


def described(schema: Schema, lost: Schema) -> Schema:
    """Return the schema with the removed keywords in its description."""
    return {**schema, "description": f"{schema.get('description') or ''} {condition(lost)}".strip()}


def condition(keywords: Schema) -> str:
    """Return a sentence that states the rules for the arguments to the model."""
    rules = [f"{name}: {summary(value)}" for name, value in keywords.items()]
    return f"The arguments must also match {'; '.join(rules)}."


def summary(value: Any) -> str:
    """Return a short text that says what the branches of a keyword require."""
    if not isinstance(value, list) or not all(isinstance(branch, dict) for branch in value):
        return str(value)
    return " | ".join(f"({branch_summary(branch)})" for branch in value)


def branch_summary(branch: Schema) -> str:
    names = required_names(branch) or [*properties_of(branch)] or [str(branch.get("title", "..."))]
    return ", ".join(names)


def unique(values: list[Any]) -> list[Any]:
    """Return the values without duplicates. The values need not be hashable."""
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


# References ---------------------------------------------------------------------------------------


def with_lone_references(schema: Schema) -> Schema:
    """Return the schema with definitions in place of references that have other keywords beside them."""

    def expand(found: Schema) -> Schema:
        siblings = {name: value for name, value in found.items() if not name.startswith("$")}
        if "$ref" not in found or not siblings:
            return found
        definition = resolve(found, schema)
        return {"$ref": found["$ref"]} if definition is found else {**definition, **siblings}

    expanded: Schema = rewrite(schema, expand)
    return expanded

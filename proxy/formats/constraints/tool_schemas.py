"""Adaptation of a tool's schema to a destination.

Agents send the same large tools with every request, so adapted schemas are cached unless they are too large.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec

from proxy.formats.constraints.aliases import aliases_of, property_keys, with_key_aliases
from proxy.formats.constraints.constraint import Constraint, Constraints
from proxy.formats.constraints.schemas import (
    Schema,
    in_current_draft,
    is_object,
    rewrite,
    with_items,
    with_lone_references,
    with_properties,
    without_top_level,
    wrapped,
)
from proxy.formats.json_body import encode

MAX_KEPT_BYTES = 64 * 1024
"""The maximum size of a cached schema. Larger schemas are adapted again for each request."""


@dataclass(frozen=True, slots=True)
class SchemaRules:
    """The constraints on schemas that apply to a destination."""

    needs_current_draft: bool
    needs_object: bool
    top_level_keywords: frozenset[str]
    needs_properties: bool
    needs_items: bool
    needs_lone_references: bool
    property_keys: Constraint | None


@dataclass(frozen=True, slots=True)
class AdaptedSchema:
    """A schema in a form that a destination accepts. It is cached, so the caller must not change it.

    `has_lost_rules` is true if some of its rules are now only in its description. `keys` are the aliases of
    argument names. `is_wrapped` is true if the client's schema became the only property of an object.
    """

    schema: Schema
    has_lost_rules: bool
    keys: dict[str, str]
    is_wrapped: bool


def schema_rules(constraints: Constraints) -> SchemaRules:
    """Return the constraints of a destination that concern schemas."""
    return SchemaRules(
        needs_current_draft=constraints.first("schema_draft") is not None,
        needs_object=constraints.first("top_level_type") is not None,
        top_level_keywords=constraints.names("top_level_keywords"),
        needs_properties=constraints.first("object_properties") is not None,
        needs_items=constraints.first("array_items") is not None,
        needs_lone_references=constraints.first("lone_reference") is not None,
        property_keys=constraints.first("property_keys"),
    )


def adapt_schema(schema: Schema, rules: SchemaRules) -> AdaptedSchema:
    """Return the schema of a tool in a form that a destination accepts."""
    encoded = encode(schema)
    if len(encoded) > MAX_KEPT_BYTES:
        return work_out(schema, rules)
    return work_out_encoded(encoded, rules)


@lru_cache(maxsize=2048)
def work_out_encoded(encoded: bytes, rules: SchemaRules) -> AdaptedSchema:
    return work_out(msgspec.json.decode(encoded), rules)


def work_out(schema: Schema, rules: SchemaRules) -> AdaptedSchema:
    if rules.needs_current_draft:
        schema = rewrite(schema, in_current_draft)
    is_wrapped = rules.needs_object and not is_object(schema)
    if is_wrapped:
        schema = wrapped(schema)
    elif rules.needs_object:
        schema = {**schema, "type": "object"}
    merged = without_top_level(schema, rules.top_level_keywords)
    keys = aliases_of(property_keys(merged), rules.property_keys) if rules.property_keys else {}
    fitted = adapt_inner(with_key_aliases(merged, keys) if keys else merged, rules)
    return AdaptedSchema(fitted, merged is not schema, keys, is_wrapped)


def adapt_inner(schema: Any, rules: SchemaRules) -> Any:
    """Apply the rules for inner schemas at every depth."""
    if rules.needs_current_draft:
        schema = rewrite(schema, in_current_draft)
    if rules.needs_properties:
        schema = rewrite(schema, with_properties)
    if rules.needs_items:
        schema = rewrite(schema, with_items)
    return with_lone_references(schema) if rules.needs_lone_references else schema

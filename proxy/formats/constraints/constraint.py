"""The type of a constraint: a fact about what vendors reject, and how the gateway changes requests."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from proxy.formats.neutral import Origin

Rule = Literal[
    "user",
    "max_tokens",
    "max_tokens_without_stream",
    "min_tokens",
    "thinking_budget",
    "range",
    "seed",
    "stop_count",
    "blank_stop",
    "unsupported_settings",
    "sampling",
    "exclusive",
    "thinking_sampling",
    "efforts",
    "format_with_tools",
    "format_top_type",
    "json_word",
    "metadata",
    "tool_name",
    "tool_count",
    "unique_tool_names",
    "tool_description",
    "strict_subset",
    "strict_limits",
    "top_level_keywords",
    "top_level_type",
    "schema_draft",
    "object_properties",
    "array_items",
    "property_keys",
    "lone_reference",
    "forced_tool_choice",
    "tools_by_responses",
    "tools_needed",
    "call_id",
    "message_fields",
    "earlier_thinking",
    "media_type",
    "base64",
    "blank_text",
    "empty_content",
    "cache_breakpoints",
    "last_role",
    "user_after_tool",
]
"""What a constraint limits. The gateway adapts requests to one rule after the other."""

Action = Literal["hash", "shorten", "drop", "lower", "raise", "rewrite", "instruct"]
"""How the gateway changes a request that the vendor would reject.

With `instruct`, a setting is removed, and an instruction in the prompt replaces it.
"""


@dataclass(frozen=True, slots=True)
class Destination:
    """The destination of a request: the provider's slug, its format, and its name for the model."""

    provider: str
    format: str
    model: str


@dataclass(frozen=True)
class Constraint:
    """A row of the table: what some vendors reject in a request.

    It applies to `formats`, to `providers` (slugs of the catalog; all if it is empty), and to the models
    whose name contains a match of the regular expression `models`. `maximum`, `minimum`, `pattern` and
    `names` are the limits; `docs/vendor-constraints.md` says which of them each rule uses. `source` is a page
    that states the constraint, written by the vendor or by its users. `stated` is the date of the statement,
    or the date on which the page was read.
    """

    id: str
    rule: Rule
    action: Action
    formats: tuple[Origin, ...]
    rejected: str
    source: str
    stated: str
    providers: tuple[str, ...] = ()
    models: str = ""
    maximum: float | None = None
    minimum: float | None = None
    pattern: str = ""
    names: tuple[str, ...] = ()

    @cached_property
    def model_pattern(self) -> re.Pattern[str]:
        return re.compile(self.models)

    def applies_to(self, destination: Destination) -> bool:
        """Return whether the constraint applies to requests to this destination."""
        return (
            destination.format in self.formats
            and (not self.providers or destination.provider in self.providers)
            and self.model_pattern.search(destination.model) is not None
        )

    def allows(self, amount: float) -> bool:
        """Return whether a number is allowed.

        The number may be the value of a setting, or a number of characters, items or tokens.
        """
        return (self.maximum is None or amount <= self.maximum) and (
            self.minimum is None or amount >= self.minimum
        )


class Constraints:
    """The rows that apply to one destination, grouped by their rule."""

    def __init__(self, rows: Iterable[Constraint]) -> None:
        self.rows: dict[Rule, list[Constraint]] = {}
        for row in rows:
            self.rows.setdefault(row.rule, []).append(row)

    def all(self, rule: Rule) -> Sequence[Constraint]:
        """Return all rows of a rule."""
        return self.rows.get(rule, ())

    def first(self, rule: Rule) -> Constraint | None:
        """Return the first row of a rule. Rows for certain vendors or models come before general rows."""
        return next(iter(self.all(rule)), None)

    def names(self, rule: Rule) -> frozenset[str]:
        """Return the names in all rows of a rule."""
        return frozenset(name for row in self.all(rule) for name in row.names)


def changed(name: str, how: str) -> str:
    """Return the entry in `x-gateway-dropped` for a setting that was changed and not dropped."""
    return f"{name};changed={how}"

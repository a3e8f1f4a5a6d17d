"""The value of a tag in the metadata of usage records, as an expression of queries."""

from collections.abc import Iterable
from typing import Any, TypeVar

from django.db.models import F, Func, QuerySet, TextField
from django.db.models.sql.compiler import SQLCompiler

Rows = TypeVar("Rows", bound=QuerySet[Any])


class TagValue(Func):
    """The text of the tag `name`; null if a record has no such tag.

    The name is a parameter of the query. Django's look-ups in JSON would read a number as an index, and
    cannot express quotes on SQLite.
    """

    output_field = TextField()

    def __init__(self, name: str) -> None:
        super().__init__(F("metadata"))
        self.name = name

    def as_sqlite(self, compiler: SQLCompiler, connection: Any, **_: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.source_expressions[0])
        return f"(SELECT value FROM json_each({column}) WHERE key = %s)", (*parameters, self.name)

    def as_postgresql(self, compiler: SQLCompiler, connection: Any, **_: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.source_expressions[0])
        return f"({column} ->> %s::text)", (*parameters, self.name)


def with_tags(records: Rows, tags: Iterable[tuple[str, str]]) -> Rows:
    """Select the records that have all of these tags, given as names and values."""
    for position, (name, value) in enumerate(tags):
        alias = f"tag_{position}"
        records = records.alias(**{alias: TagValue(name)}).filter(**{alias: value})
    return records

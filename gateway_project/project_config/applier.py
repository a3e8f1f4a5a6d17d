"""Writes entries of a document into rows, and collects the changes and the problems."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from gateway_project.project_config.fields import Field
from projects.yaml_tree import DocumentReader, Entry

CREATED, CHANGED, REMOVED = "+", "~", "-"


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one row. `details` are its differences, one per line."""

    mark: str
    label: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join((f"{self.mark} {self.label}", *self.details))


class Applier:
    """Run of `apply_config`. `prunes` removes rows that the document does not mention."""

    def __init__(self, *, prunes: bool) -> None:
        self.prunes = prunes
        self.reader = DocumentReader()
        self.changes: list[Change] = []
        self.notes: list[str] = []

    def save(
        self,
        row: models.Model,
        entry: Entry,
        fields: Sequence[Field],
        *,
        details: Sequence[str] = (),
        columns: Collection[str] = (),
    ) -> bool:
        """Write the fields of an entry into a row, and save it if something differs.

        `details` and `columns` are differences that the caller has written into the row. Return False if the
        entry has a problem; the row is then not saved.
        """
        is_new = row._state.adding
        before = {field.name: field.render(getattr(row, field.column)) for field in fields}
        problem_count = len(self.reader.problems)
        self.set_columns(row, entry, fields)
        if len(self.reader.problems) > problem_count:
            return False
        if not is_new and not details and not differences(row, fields, before):
            return True
        if not self.is_valid(row, entry, fields):
            return False
        found = [*differences(row, fields, {} if is_new else before), *details]
        if is_new:
            row.save()
        elif found:
            changed = [field.column for field in fields if field.name in entry.nodes]
            row.save(update_fields={*changed, *columns})
        if is_new or found:
            self.changes.append(Change(CREATED if is_new else CHANGED, entry.label, tuple(found)))
        return True

    def set_columns(self, row: models.Model, entry: Entry, fields: Iterable[Field]) -> None:
        """Set the columns of the fields that an entry has. A value that cannot be parsed is a problem."""
        for field in fields:
            if field.name not in entry.nodes:
                continue
            value = self.reader.plain(entry.nodes[field.name], entry.label)
            try:
                setattr(row, field.column, field.parse(value))
            except ValueError as error:
                self.add_problem(entry, field.name, str(error))

    def is_valid(self, row: models.Model, entry: Entry, fields: Iterable[Field]) -> bool:
        """Validate a row as the dashboard does. Each error is a problem at the line of its field."""
        names = {field.column: field.name for field in fields}
        try:
            row.full_clean()
        except ValidationError as error:
            for column, texts in error.message_dict.items():
                for text in texts:
                    self.add_problem(entry, names.get(column, ""), text)
            return False
        return True

    def add_problem(self, entry: Entry, name: str, text: str) -> None:
        """Add a problem of a field, or of a whole entry if the name is empty."""
        where = f"{entry.label}: {name}" if name else entry.label
        self.reader.add_problem(entry.line_of(name), f"{where}: {text}")

    def remove(self, label: str, verb: str = "") -> None:
        """Note that a row was removed, or ended in the way that `verb` says."""
        self.changes.append(Change(REMOVED, f"{label}: {verb}" if verb else label))


def differences(row: models.Model, fields: Iterable[Field], before: dict[str, Any]) -> Iterator[str]:
    """Yield the fields whose values differ, as `name: old → new`; without an old value, `name: new`."""
    for field in fields:
        new = field.render(getattr(row, field.column))
        if field.name not in before:
            if new not in (None, "", [], {}):
                yield f"{field.name}: {shown(new)}"
        elif new != before[field.name]:
            yield f"{field.name}: {shown(before[field.name])} → {shown(new)}"


def shown(value: Any) -> str:
    match value:
        case None | "" | [] | {}:
            return "none"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(shown, value))
        case dict():
            return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
        case _:
            return str(value)


def export_row(row: models.Model, fields: Iterable[Field]) -> dict[str, Any]:
    """Return the fields of a row as values of the document."""
    return {field.name: field.render(getattr(row, field.column)) for field in fields}

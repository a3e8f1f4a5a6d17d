"""All rows that belong to a project: found by foreign keys, exported without secrets, and deleted."""

import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec
from django.apps import apps
from django.db import models
from django.utils import timezone

from billing.models import Reservation, StaleDay
from projects.models import Project, User
from projects.vault import DecryptionError
from proxy.models import BackgroundResponse, IdempotentRequest, PromptLogEntry, PromptLogUser
from proxy.prompt_log.body import unseal_body

SECRET_WORDS = frozenset({"secret", "sealed", "digest", "token", "password"})
"""A text column whose name has one of these words is not exported."""
NOT_EXPORTED = frozenset(
    model._meta.label
    for model in (Reservation, StaleDay, BackgroundResponse, IdempotentRequest, PromptLogUser)
)
"""Models whose rows exist only while the gateway works on something, or are computed from other rows."""
URL_COLUMNS = frozenset({"billing.Webhook.url"})
"""Columns whose values may contain a token in their path or query."""
BATCH_SIZE = 500
BATCH_PAUSE_S = 0.02
"""Pause between two batches, in which the ledger can lock SQLite."""

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ProjectTable:
    """A model whose rows belong to projects. `path` is the look-up of the project from its rows."""

    model: type[models.Model]
    path: str

    @property
    def name(self) -> str:
        return self.model._meta.label_lower

    def rows(self, project: Project) -> "models.QuerySet[Any]":
        return self.model._default_manager.filter(**{self.path: project.pk}).order_by("pk")

    def columns(self) -> list[str]:
        """Return the names of the columns to export, and the e-mail addresses of the users they name."""
        fields = [field for field in self.model._meta.concrete_fields if not is_secret(field)]
        users = [f"{field.name}__email" for field in fields if field.related_model is User]
        return [*(field.attname for field in fields), *users]


def is_secret(field: "models.Field[Any, Any]") -> bool:
    is_text = isinstance(field, models.CharField | models.TextField | models.BinaryField)
    has_word = bool(SECRET_WORDS & set(field.name.split("_")))
    return (is_text and has_word) or f"{field.model._meta.label}.{field.name}" in URL_COLUMNS


def project_tables() -> list[ProjectTable]:
    """Return all tables whose rows belong to a project, directly or through another table."""
    paths: dict[type[models.Model], str] = {Project: "pk"}
    found = [ProjectTable(Project, "pk")]
    while added := list(next_tables(paths)):
        paths |= {table.model: table.path for table in added}
        found += added
    return found


def next_tables(paths: dict[type[models.Model], str]) -> Iterator[ProjectTable]:
    """Yield the tables that are not in `paths`, but refer to a table in `paths`."""
    for model in apps.get_models(include_auto_created=True):
        if model in paths or model is User:
            continue
        for field in model._meta.concrete_fields:
            target = field.related_model
            on_delete = getattr(field.remote_field, "on_delete", None)
            if target in paths and on_delete in (models.CASCADE, models.DO_NOTHING):
                yield ProjectTable(model, f"{field.name}__{paths[target]}".removesuffix("__pk"))
                break


def export(project: Project, path: Path) -> dict[str, int]:
    """Write the rows of a project as JSON lines into a tar file. Return their numbers by table."""
    counts = {}
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for table in project_tables():
            if table.model._meta.label in NOT_EXPORTED:
                continue
            with tempfile.TemporaryFile() as lines:
                counts[table.name] = write_rows(table, project, lines)
                add_file(archive, f"{table.name}.jsonl", lines)
        manifest = {"project": project.slug, "exported_at": timezone.now(), "rows": counts}
        add_file(archive, "manifest.json", io.BytesIO(encode(manifest)))
    return counts


def write_rows(table: ProjectTable, project: Project, lines: IO[bytes]) -> int:
    count = 0
    for row in table.rows(project).values(*table.columns()).iterator(chunk_size=BATCH_SIZE):
        lines.write(encode(row) + b"\n")
        count += 1
    return count if table.model is not PromptLogEntry else write_prompts(table, project, lines)


def write_prompts(table: ProjectTable, project: Project, lines: IO[bytes]) -> int:
    """Write the decrypted entries of the prompt log. An entry that cannot be decrypted has no body."""
    lines.seek(0)
    lines.truncate()
    count = 0
    for entry in table.rows(project).iterator(chunk_size=BATCH_SIZE):
        try:
            body = unseal_body(project.pk, bytes(entry.sealed_body))
        except DecryptionError:
            body = None
        lines.write(encode({"id": entry.pk, "body": body}) + b"\n")
        count += 1
    return count


def add_file(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = content.seek(0, io.SEEK_END), int(time.time()), 0o600
    content.seek(0)
    archive.addfile(entry, content)


def count_rows(project: Project) -> dict[str, int]:
    """Return the numbers of rows by table, without tables that have none."""
    counts = {table.name: table.rows(project).count() for table in project_tables()}
    return {name: count for name, count in counts.items() if count}


def delete(project: Project) -> None:
    """Delete a project with all its rows.

    Rows are deleted in small batches, so that no transaction is long. Rows that refer to other rows are
    deleted before these. The project is deleted last, so that an interrupted deletion can be repeated.
    """
    for table in reversed(project_tables()):
        delete_rows(table, project)


def delete_rows(table: ProjectTable, project: Project) -> None:
    ids = table.rows(project).values_list("pk", flat=True)
    while batch := list(ids.all()[:BATCH_SIZE]):
        table.model._default_manager.filter(pk__in=batch).delete()
        if len(batch) == BATCH_SIZE:
            time.sleep(BATCH_PAUSE_S)

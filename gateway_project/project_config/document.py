"""The YAML of `export_config` and `apply_config`: projects with their sections, and operator prices."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from django.db import transaction

from gateway_project.project_config.applier import Applier, Change, export_row
from gateway_project.project_config.fields import flag, limit, number, text, texts
from gateway_project.project_config.sections.api_keys import apply_keys, export_keys
from gateway_project.project_config.sections.budgets import apply_budgets, export_budgets
from gateway_project.project_config.sections.credentials import apply_credentials, export_credentials
from gateway_project.project_config.sections.members import apply_members, export_members
from gateway_project.project_config.sections.prices import apply_prices, export_prices
from gateway_project.project_config.sections.prompt_log import apply_prompt_log, export_prompt_log
from gateway_project.project_config.sections.routes import apply_routes, export_routes
from gateway_project.project_config.sections.webhooks import apply_webhooks, export_webhooks
from projects.models import RESERVED_SLUGS, Project
from projects.yaml_tree import Problem

VERSION = 1
PROJECT_FIELDS = (
    text("name"),
    text("timezone"),
    flag("uses_operator_credentials"),
    flag("accepts_provider_keys"),
    flag("caches_responses"),
    number("cache_ttl_s"),
    texts("allowed_origins"),
    limit("rpm_limit"),
    limit("tpm_limit"),
    limit("concurrency_limit"),
)


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a project. Sections are applied in order, because later ones refer to earlier ones."""

    export: Callable[[Project], Any]
    apply: Callable[[Applier, Project, yaml.Node], None]


SECTIONS = {
    "members": Section(export_members, apply_members),
    "keys": Section(export_keys, apply_keys),
    "credentials": Section(export_credentials, apply_credentials),
    "webhooks": Section(export_webhooks, apply_webhooks),
    "budgets": Section(export_budgets, apply_budgets),
    "routes": Section(export_routes, apply_routes),
    "prices": Section(export_prices, apply_prices),
    "prompt_log": Section(export_prompt_log, apply_prompt_log),
}
PROJECT_NAMES = (*(field.name for field in PROJECT_FIELDS), *SECTIONS)
HEADER = (
    "# The configuration of projects, for apply_config. It has no secrets: `stored` stands for a secret\n"
    "# that is in the database. For a new or changed one, write env:NAME or file:PATH.\n"
)


class InvalidDocument(Exception):
    """Raised if a document has problems. Nothing was changed."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(set(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Outcome:
    """The changes of a run, and notes about what was left out."""

    changes: list[Change]
    notes: list[str]


def export_document(projects: Iterable[Project], *, with_operator_prices: bool) -> str:
    """Return the document of some projects."""
    content: dict[str, Any] = {
        "version": VERSION,
        "projects": {project.slug: export_project(project) for project in projects},
    }
    if with_operator_prices:
        content["prices"] = export_prices(None)
    return HEADER + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)


def export_project(project: Project) -> dict[str, Any]:
    sections = {name: section.export(project) for name, section in SECTIONS.items()}
    return export_row(project, PROJECT_FIELDS) | sections


def apply_document(source: str, *, prunes: bool, dry_run: bool) -> Outcome:
    """Apply a document in one transaction. A dry run rolls it back. Raises InvalidDocument."""
    applier = Applier(prunes=prunes)
    with transaction.atomic():
        apply_root(applier, source)
        if applier.reader.problems:
            raise InvalidDocument(applier.reader.problems)
        transaction.set_rollback(dry_run)
    return Outcome(applier.changes, applier.notes)


def apply_root(applier: Applier, source: str) -> None:
    reader = applier.reader
    root = reader.root(source)
    if root is None:
        if not reader.problems:
            reader.add_problem(1, "the document is empty.")
        return
    entry = reader.entry(root, "document", ("version", "projects", "prices"))
    check_version(applier, entry.nodes.get("version"))
    if "projects" in entry.nodes:
        for slug, node in reader.mapping(entry.nodes["projects"], "projects").items():
            apply_project(applier, slug, node)
    if "prices" in entry.nodes:
        apply_prices(applier, None, entry.nodes["prices"])


def check_version(applier: Applier, node: yaml.Node | None) -> None:
    version = applier.reader.plain(node, "version") if node else None
    if version != VERSION:
        applier.reader.add_problem(1, f"version: {VERSION} is expected at the top of the document.")


def apply_project(applier: Applier, slug: str, node: yaml.Node) -> None:
    entry = applier.reader.entry(node, slug, PROJECT_NAMES)
    project = Project.objects.filter(slug=slug).select_for_update().first() or Project(slug=slug)
    if project._state.adding and slug in RESERVED_SLUGS:
        applier.add_problem(entry, "", f"{slug} cannot be the name of a new project.")
    if not applier.save(project, entry, PROJECT_FIELDS) and project._state.adding:
        # The sections of an invalid project are checked too. Its problems undo this row.
        project = Project.objects.create_with_owner(name=slug[:80])
    for name, section in SECTIONS.items():
        if name in entry.nodes:
            section.apply(applier, project, entry.nodes[name])

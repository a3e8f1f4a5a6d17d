"""The section `routes`: the routes of a project, as lists by name.

The list of a name describes all its routes, in the order in which their rules are tried.
"""

from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec
import yaml

from gateway_project.project_config.applier import Applier
from gateway_project.project_config.fields import Field, flag, items, limit, parse_texts, text
from keys.models import ApiKey
from projects.models import Project
from projects.yaml_tree import Entry
from proxy.models import Route
from proxy.models.route_definitions import RouteDefinition
from proxy.routing import config_file
from proxy.routing.accounts import load_accounts, operator_accounts_for
from proxy.routing.routes.builder import build_table, checked, route_from


def parse_object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("it must be a mapping, such as {min_input_tokens: 1000}.")
    return value


FIELDS = (
    text("strategy"),
    items("targets"),
    Field("fallbacks", "fallbacks", parse_texts),
    Field("rule", "rule", parse_object),
    limit("retry_attempts"),
    limit("retry_delay_ms"),
    flag("retries_context_length"),
)
NAMES = tuple(field.name for field in FIELDS)


def default_of(field: Field) -> Any:
    return getattr(Route(), field.column)


def export_routes(project: Project) -> dict[str, Any]:
    rows = groupby(Route.objects.for_project(project), key=attrgetter("name"))
    return {name: [export_route(row) for row in group] for name, group in rows}


def export_route(row: Route) -> dict[str, Any]:
    values = {field.name: field.render(getattr(row, field.column)) for field in FIELDS}
    return {field.name: values[field.name] for field in FIELDS if values[field.name] != default_of(field)}


DEFAULT_NODES = {
    field.name: node
    for field in FIELDS
    if (node := yaml.compose(yaml.safe_dump(default_of(field)), yaml.SafeLoader)) is not None
}
"""The default values of fields, for routes in the document that do not have these fields."""


def apply_routes(applier: Applier, project: Project, node: yaml.Node) -> None:
    entries = applier.reader.mapping(node, f"{project.slug}: routes")
    changed: list[tuple[Route, Entry]] = []
    for name, value in entries.items():
        changed += apply_name(applier, project, name, value)
    for row in Route.objects.for_project(project).exclude(name__in=entries) if applier.prunes else ():
        row.delete()
        applier.remove(f"{project.slug}: route {row.name}")
    check_routes(applier, project, changed)


def apply_name(applier: Applier, project: Project, name: str, node: yaml.Node) -> list[tuple[Route, Entry]]:
    """Replace the routes of a name by those of the document. Return the new and the changed ones."""
    label = f"{project.slug}: route {name}"
    stored = list(Route.objects.for_project(project).filter(name=name))
    values = applier.reader.sequence(node, label)
    changed = []
    for number, value in enumerate(values):
        entry = applier.reader.entry(value, label, NAMES)
        route = stored[number] if number < len(stored) else Route(project=project, name=name)
        count = len(applier.changes)
        applier.save(route, Entry(label, entry.line, DEFAULT_NODES | entry.nodes), FIELDS)
        changed += [(route, entry)] * (len(applier.changes) > count)
    for route in stored[len(values) :]:
        route.delete()
        applier.remove(label)
    return changed


def check_routes(applier: Applier, project: Project, changed: list[tuple[Route, Entry]]) -> None:
    """Report why changed routes cannot work with the credentials and the other routes of the project."""
    definitions = {route.pk: route_definition(applier, route, entry) for route, entry in changed}
    unchanged = Route.objects.for_project(project).exclude(pk__in=definitions)
    valid = [*(row.definition() for row in unchanged), *filter(None, definitions.values())]
    accounts = load_accounts(project.pk), operator_accounts_for(project)
    table = build_table(valid, *accounts, config_file.load())
    for route, entry in changed:
        check_rule_keys(applier, route, entry)
        if definition := definitions[route.pk]:
            for problem in checked(table, route_from(table, definition, is_projects=True)).problems:
                applier.add_problem(entry, "", problem)


def route_definition(applier: Applier, route: Route, entry: Entry) -> RouteDefinition | None:
    """Return the definition of a route. If a value is not valid, add a problem and return None."""
    try:
        return route.definition()
    except msgspec.ValidationError as error:
        applier.add_problem(entry, "", f"{error}.")
        return None


def check_rule_keys(applier: Applier, route: Route, entry: Entry) -> None:
    wanted = route.rule.get("keys", [])
    known = ApiKey.objects.for_project(route.project).filter(public_id__in=wanted)
    for public_id in set(wanted) - set(known.values_list("public_id", flat=True)):
        applier.add_problem(entry, "rule", f"the project does not have the API key {public_id}.")

"""Alert the admins of projects that use a model which will soon retire."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Set

from billing.models import AdminAlert, AdminEvent, DailyUsage
from billing.pricing.price_list import load_price_list
from billing.pricing.retirements import Retirement
from projects.models import Project
from proxy.errors import GatewayError
from proxy.models import Route
from proxy.routing.accounts import operator_accounts_for
from proxy.routing.resolve import Lookup, load_project_routing
from proxy.routing.routes import model_life

NOTICE = dt.timedelta(days=30)
"""How long before the retirement of a model the admins get an alert."""
USED_WITHIN = dt.timedelta(days=30)
"""A model is in use if requests have named it within this time, or if a route does."""


def alert_admins() -> int:
    """Create the alerts that are due in all projects, one for each model. Return their number."""
    today = model_life.today()
    used = names_in_use(today)
    projects = Project.objects.filter(pk__in=used)
    return sum(alert_project(project, used[project.pk], today) for project in projects)


def names_in_use(today: dt.date) -> dict[int, set[str]]:
    """Return the names in use by project."""
    used: defaultdict[int, set[str]] = defaultdict(set)
    recent = DailyUsage.objects.filter(day__gte=today - USED_WITHIN)
    for project_id, name in recent.values_list("project_id", "requested_model").distinct():
        used[project_id].add(name)
    for project_id, name in Route.objects.values_list("project_id", "name"):
        used[project_id].add(name)
    return dict(used)


def alert_project(project: Project, names: Set[str], today: dt.date) -> int:
    return sum(
        AdminAlert.objects.raise_once(
            project,
            AdminEvent.MODEL_RETIRING,
            model,
            retirement.date.isoformat(),
            f"{model} retires on {retirement.date.isoformat()}",
            alert_text(model, retirement, name),
        )
        for name, model, retirement in retiring(project, sorted(names), today)
    )


def retiring(project: Project, names: list[str], today: dt.date) -> Iterator[tuple[str, str, Retirement]]:
    """Yield the models that retire within NOTICE, each with the name under which requests use it."""
    table = load_project_routing(project.pk).table(operator_accounts_for(project))
    lookup = Lookup(table, None, load_price_list(project.pk), today)
    for name in names:
        try:
            route = table.find(name, None)
        except GatewayError:
            continue
        for account, model, _ in lookup.route_targets(route, {name}):
            retirement = model_life.retirement_of(account, model)
            if retirement and today < retirement.date <= today + NOTICE:
                yield name, model, retirement


def alert_text(model: str, retirement: Retirement, name: str) -> str:
    """Say what happens, why, and what to do."""
    day = retirement.date.isoformat()
    use = "" if name == model else f" Requests use it under the name {name}."
    if not retirement.successor:
        return f"The vendor shuts {model} down on {day}, and names no successor. Use another model.{use}"
    return (
        f"The vendor shuts {model} down on {day}. From then on, the gateway sends its requests to "
        f"{retirement.successor}, at the price of that model. To use another model, create a route.{use}"
    )

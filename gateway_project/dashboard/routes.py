"""The pages of routes."""

from collections.abc import Iterator, Set
from dataclasses import dataclass

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from billing.pricing import Price
from billing.pricing.price_list import PriceList, load_price_list
from gateway_project.dashboard.confirm import confirm
from keys.models import ApiKey
from projects.access import ProjectRequest, project_view
from projects.models import Project, Role
from proxy.models import Route
from proxy.models.route_definitions import RuleDefinition, TargetDefinition
from proxy.routing.accounts import operator_accounts_for
from proxy.routing.health.breaker import BreakerState
from proxy.routing.health.target_health import health
from proxy.routing.model_list import ListedModel, list_model
from proxy.routing.resolve import load_project_routing
from proxy.routing.routes import model_life
from proxy.routing.routes.builder import checked, route_from
from proxy.routing.routes.forms import RouteForm
from proxy.routing.routes.route import Pool
from proxy.routing.routes.table import RoutingTable, missing_credential_text


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target of a route, as the page shows it.

    `problem` says why it cannot be called; it is empty if it can. `failures` says what is wrong with its
    accounts at the moment. `notes` are other facts about the target.
    """

    name: str
    problem: str = ""
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class RouteState:
    """A route with the state of its targets, the conditions of its rule, and what is wrong with it."""

    route: Route
    targets: tuple[TargetState, ...]
    conditions: tuple[str, ...]
    problems: tuple[str, ...]


def route_states(project: Project) -> list[RouteState]:
    """Return the routes of a project with their states."""
    table = load_project_routing(project.pk).table(operator_accounts_for(project))
    prices = load_price_list(project.pk)
    keys = set(ApiKey.objects.for_project(project).values_list("public_id", flat=True))
    return [route_state(table, prices, keys, route) for route in Route.objects.for_project(project)]


def route_state(table: RoutingTable, prices: PriceList, keys: Set[str], route: Route) -> RouteState:
    definition = route.definition()
    targets = tuple(target_state(table, prices, target, route) for target in definition.targets)
    problems = checked(table, route_from(table, definition, is_projects=True)).problems
    deleted = [key for key in definition.rule.keys if key not in keys]
    missing = [f"Its rule names the API key {key}, which was deleted." for key in deleted]
    return RouteState(route, targets, tuple(conditions(definition.rule)), (*problems, *missing))


def target_state(
    table: RoutingTable, prices: PriceList, target: TargetDefinition, route: Route
) -> TargetState:
    model = target.model or route.name
    name, pool = f"{target.provider}/{model}", table.pool(target.provider)
    if pool is None:
        return TargetState(name, missing_credential_text(target.provider))
    listed = list_model(name, pool.accounts[0], model, prices, model_life.today())
    failures = tuple(failures_of(pool, route.project_id, listed.served))
    notes = tuple(notes_on(target, model, listed, len(pool.accounts)))
    return TargetState(name, "", failures, notes, listed.price)


def failures_of(pool: Pool, project_id: int, model: str) -> Iterator[str]:
    """Yield what is wrong with the accounts of a target, as far as any process of the gateway knows it."""
    now = health.clock()
    for account in pool.accounts:
        known = health.look_up(project_id, account, model)
        if not known.credential.is_usable:
            yield f"The provider rejects {account.slug}: {known.credential.reason}"
        elif not known.access.is_usable:
            yield f"{account.slug} has no access to this model: {known.access.reason}"
        elif known.breaker.state(now) is not BreakerState.CLOSED:
            yield f"{account.slug} fails, and its circuit breaker is {known.breaker.state(now).value}."


def notes_on(target: TargetDefinition, model: str, listed: ListedModel, account_count: int) -> Iterator[str]:
    """Yield what a person should know about a target."""
    if listed.served != model:
        yield f"retired, served by {listed.served}"
    elif listed.retirement:
        yield f"retires on {listed.retirement.date.isoformat()}"
    if target.weight != 1:
        yield f"weight {target.weight}"
    if target.timeout_s:
        yield f"timeout {target.timeout_s:g} s"
    if account_count > 1:
        yield f"{account_count} credentials in turn"


def conditions(rule: RuleDefinition) -> Iterator[str]:
    """Yield the conditions of a rule as texts."""
    if rule.keys:
        yield f"API key {' or '.join(rule.keys)}"
    for name, value in rule.headers.items():
        yield f"header {name}: {value}"
    for name, value in rule.metadata.items():
        yield f"tag {name}: {value}"
    if rule.min_input_tokens:
        yield f"at least {rule.min_input_tokens:,} input tokens"
    if rule.max_input_tokens is not None:
        yield f"at most {rule.max_input_tokens:,} input tokens"
    yield from (f"needs {capability}" for capability in rule.capabilities)


@project_view(Role.MEMBER)
def route_list(request: ProjectRequest, project: Project) -> HttpResponse:
    return render(request, "routes/list.html", {"states": route_states(project)})


@project_view(Role.ADMIN)
def route_new(request: ProjectRequest, project: Project) -> HttpResponse:
    form = RouteForm(request.POST or None, project=project)
    if form.is_valid():
        route = form.save()
        messages.success(request, f"Route saved. Call it as the model {route.name}.")
        return redirect("route-list", project.slug)
    return render(request, "routes/form.html", {"form": form})


@project_view(Role.ADMIN)
def route_edit(request: ProjectRequest, project: Project, route_id: int) -> HttpResponse:
    route = get_object_or_404(Route.objects.for_project(project), pk=route_id)
    form = RouteForm(request.POST or None, instance=route, project=project)
    if form.is_valid():
        form.save()
        messages.success(request, "Route saved.")
        return redirect("route-list", project.slug)
    return render(request, "routes/form.html", {"form": form, "route": route})


@project_view(Role.ADMIN)
def route_delete(request: ProjectRequest, project: Project, route_id: int) -> HttpResponse:
    route = get_object_or_404(Route.objects.for_project(project), pk=route_id)
    return confirm(
        request,
        "routes/delete.html",
        {"route": route},
        action=route.delete,
        message=f"Route {route.name} deleted.",
        redirect_to="route-list",
    )

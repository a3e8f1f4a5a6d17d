"""Resolve a model's name to targets: accounts, the model's name there, and prices.

The sources are searched in this order, and the first one that has the name decides: the project's routes and
credentials, the operator's YAML file, AI_GATEWAY_MODEL_ROUTES, `provider/model`, the bundled prices, the
default provider.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace

from django.conf import settings

from billing.pricing import Price
from billing.pricing.price_list import PriceList, price_lists
from keys.authentication import Principal
from projects.config_cache import ConfigCache
from projects.models import Project
from proxy import errors
from proxy.formats.metering.token_counts import BYTES_PER_TOKEN
from proxy.models import Route as StoredRoute
from proxy.models.route_definitions import RouteDefinition
from proxy.routing import config_file
from proxy.routing.accounts import Account, load_accounts, operator_accounts_for
from proxy.routing.config_file import OperatorConfig
from proxy.routing.routes import model_life
from proxy.routing.routes.builder import build_table
from proxy.routing.routes.route import Route, RouteTarget
from proxy.routing.routes.rules import RuleInput
from proxy.routing.routes.strategies import ASSUMED_OUTPUT_TOKENS, order
from proxy.routing.routes.table import RoutingTable
from proxy.routing.targets import Resolution, Target, price_for

MAX_TARGETS = 16
"""Maximum number of targets of one request, credentials in turn included."""


class ProjectRouting:
    """The routes and credentials of a project, and the routing table that was built from them."""

    def __init__(self, definitions: tuple[RouteDefinition, ...], accounts: tuple[Account, ...]) -> None:
        self.definitions, self.accounts = definitions, accounts
        self.built_for: tuple[tuple[Account, ...], OperatorConfig] | None = None
        self.built = RoutingTable({}, {}, None)

    def table(self, operator_accounts: tuple[Account, ...]) -> RoutingTable:
        """Return the routing table with these accounts of the operator.

        A new table is built only if these accounts have changed.
        """
        config = config_file.load()
        if (
            self.built_for is None
            or self.built_for[0] is not operator_accounts
            or self.built_for[1] is not config
        ):
            self.built = build_table(self.definitions, self.accounts, operator_accounts, config)
            self.built_for = operator_accounts, config
        return self.built


def load_project_routing(project_id: int) -> ProjectRouting:
    """Return the routes and credentials of a project, with the routing table of its keys.

    The table is built here because a large one takes some milliseconds, and this does not run in the event
    loop.
    """
    routes = StoredRoute.objects.filter(project=project_id).order_by("pk")
    routing = ProjectRouting(tuple(route.definition() for route in routes), load_accounts(project_id))
    for project in Project.objects.filter(pk=project_id):
        routing.table(operator_accounts_for(project))
    return routing


project_routing_cache: ConfigCache[int, ProjectRouting] = ConfigCache(load_project_routing)


async def resolve(principal: Principal, model: str, given: RuleInput | None = None) -> Resolution:
    """Return the targets of a model, and how calls are repeated. If `given` is None, rules are ignored.

    Raises GatewayError if no provider of the project serves the model, or if no credential can be decrypted.
    """
    table = await routing_table(principal)
    prices = await price_lists.get(principal.project_id)
    return Lookup(table, given, prices, day_of(given)).resolution(model)


def day_of(given: RuleInput | None) -> dt.date:
    """Return the day for which a model is looked up: a later day if the gateway has chosen the model."""
    is_default = given is not None and "model" in given.client_request.facts.default_settings
    return model_life.today() + model_life.EARLY if is_default else model_life.today()


async def routing_table(principal: Principal) -> RoutingTable:
    """Return the routing table of the key's project."""
    routing = await project_routing_cache.get(principal.project_id)
    return routing.table(operator_accounts_for(principal))


class Lookup:
    """The lookup of one request in a routing table."""

    def __init__(
        self, table: RoutingTable, given: RuleInput | None, prices: PriceList, today: dt.date
    ) -> None:
        self.table, self.given, self.prices, self.today = table, given, prices, today

    def resolution(self, model: str) -> Resolution:
        """Return the targets of a model. Raises GatewayError."""
        route = self.table.find(model, self.given)
        found = list(self.route_targets(route, {model}))
        usable = [each for each in unique(found) if each[0].secret is not None]
        if not usable:
            raise errors.credential_unreadable() if found else unusable(route)
        targets = with_substitutes(tuple(self.target(*each) for each in usable))
        env, (first, named, _) = settings.ENV, usable[0]
        return Resolution(
            targets,
            env.ai_gateway_retry_attempts if route.retry_attempts is None else route.retry_attempts,
            env.ai_gateway_retry_delay_ms if route.retry_delay_ms is None else route.retry_delay_ms,
            route.retries_context_length,
            self.life_headers(model, first, named, targets[0].model),
        )

    def life_headers(self, requested: str, account: Account, named: str, served: str) -> dict[str, str]:
        """Return the headers about the retirement of the target's model, or else of the requested name."""
        headers = model_life.life_headers(account, named, served)
        if headers or named == requested:
            return headers
        return model_life.life_headers(account, requested, served)

    def route_targets(self, route: Route, visited: set[str]) -> Iterator[tuple[Account, str, RouteTarget]]:
        """Yield each account with the model that the route names there, then those of the fallbacks."""
        for target in order(route.targets, route.strategy, self.price_of, self.estimated_tokens()):
            for account in target.pool.next_order():
                yield account, target.model, target
        for name in route.fallbacks:
            if name not in visited:
                visited.add(name)
                yield from self.fallback_targets(name, visited)

    def fallback_targets(self, name: str, visited: set[str]) -> Iterator[tuple[Account, str, RouteTarget]]:
        try:
            fallback = self.table.find(name, self.given)
        except errors.GatewayError:
            # The routes page shows this problem. The other targets can still serve the request.
            return
        yield from self.route_targets(fallback, visited)

    def estimated_tokens(self) -> tuple[int, int]:
        """Return the estimated input and output tokens of the request."""
        if self.given is None:
            return 1, 1
        facts = self.given.client_request.facts
        output = ASSUMED_OUTPUT_TOKENS if facts.max_output_tokens is None else facts.max_output_tokens
        return -(-facts.max_input_tokens // BYTES_PER_TOKEN), min(output, ASSUMED_OUTPUT_TOKENS)

    def price_of(self, target: RouteTarget) -> Price | None:
        account = target.pool.accounts[0]
        return price_for(account, model_life.served_model(account, target.model, self.today), self.prices)

    def target(self, account: Account, model: str, target: RouteTarget) -> Target:
        served = model_life.served_model(account, model, self.today)
        price = price_for(account, served, self.prices)
        return Target(account, served, price, target.timeout_s, is_substitute=served != model)


def unique(
    found: list[tuple[Account, str, RouteTarget]],
) -> list[tuple[Account, str, RouteTarget]]:
    """Return the first MAX_TARGETS targets without repetitions of a model at an account."""
    if len(found) == 1:
        return found
    distinct = {(id(account), model): (account, model, target) for account, model, target in reversed(found)}
    return list(reversed(distinct.values()))[:MAX_TARGETS]


def with_substitutes(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Mark the targets that serve another model than the first one."""
    if len(targets) == 1:
        return targets
    first = targets[0].model
    return tuple(
        target if target.model == first else replace(target, is_substitute=True) for target in targets
    )


def unusable(route: Route) -> errors.GatewayError:
    """Return the error for a route without any usable target."""
    reasons = " ".join(route.problems)
    if route.is_projects:
        return errors.invalid_route(route.name, reasons)
    return errors.unknown_model(route.name, f" {reasons}" if reasons else "")

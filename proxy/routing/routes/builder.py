"""Build the routing table of a project from its credentials and routes, and from the operator's."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from proxy.models.route_definitions import ANY_REQUEST, RouteDefinition
from proxy.providers import demo
from proxy.providers.catalog import DEMO
from proxy.routing.accounts import Account
from proxy.routing.config_file import ModelRoute, OperatorConfig
from proxy.routing.routes.checks import problems_of
from proxy.routing.routes.route import Pool, Route, RouteTarget
from proxy.routing.routes.table import DEMO_POOL, RoutingTable, missing_credential_text

Routes = dict[str, list[Route]]


def build_table(
    definitions: Sequence[RouteDefinition],
    project_accounts: Sequence[Account],
    operator_accounts: Sequence[Account],
    config: OperatorConfig,
) -> RoutingTable:
    """Return the routing table of a project.

    If several sources have the same name, the first of them decides.

    `definitions` are the routes of the project. `operator_accounts` are those that the project may use.
    """
    pools = pools_by_name(project_accounts, [account for account in operator_accounts if not account.models])
    table = RoutingTable({}, pools, default_pool(pools, config.default_provider))
    routes: Routes = {}
    for source in (
        project_routes(table, definitions),
        model_routes(project_accounts),
        file_routes(table, config),
        url_routes(operator_accounts, config),
        unserved_url_routes(config),
        (Route(name, (RouteTarget(DEMO_POOL, name),)) for name in demo.MODELS),
    ):
        for route in source:
            routes.setdefault(route.name, []).append(route)
    table.routes = routes
    table.routes = {name: [checked(table, route) for route in routes[name]] for name in routes}
    return table


def checked(table: RoutingTable, route: Route) -> Route:
    """Return the route with the problems that can only be found in the complete table."""
    found = problems_of(table, route)
    return replace(route, problems=(*route.problems, *found)) if found else route


def pools_by_name(
    project_accounts: Sequence[Account], operator_accounts: Sequence[Account]
) -> dict[str, Pool]:
    """Return pools by provider and by account. A project's account takes precedence over the operator's."""
    pools: dict[str, Pool] = {}
    for accounts in (operator_accounts, project_accounts):
        pools |= provider_pools(accounts)
        pools |= {
            account.slug: Pool((account,)) for account in accounts if account.slug != account.provider.slug
        }
    return pools


def provider_pools(accounts: Sequence[Account]) -> dict[str, Pool]:
    """Return for each provider the accounts that are used in turn: those with the same base URL.

    The base URL is that of the account that is named like its provider, else that of the first account.
    """
    leaders: dict[str, Account] = {}
    for account in accounts:
        provider = account.provider.slug
        if provider not in leaders or account.slug == provider != leaders[provider].slug:
            leaders[provider] = account
    return {provider: Pool(at_same_place(leader, accounts)) for provider, leader in leaders.items()}


def at_same_place(leader: Account, accounts: Iterable[Account]) -> tuple[Account, ...]:
    place = leader.provider.slug, leader.base_url
    others = [account for account in accounts if account is not leader]
    return (leader, *(each for each in others if (each.provider.slug, each.base_url) == place))


def default_pool(pools: dict[str, Pool], chosen: str) -> Pool | None:
    """Return the accounts of the operator's default provider, or the only accounts; else None."""
    if chosen == DEMO:
        return DEMO_POOL
    if chosen in pools:
        return pools[chosen]
    if len({place_of(pool) for pool in pools.values()}) != 1:
        return None
    return max(pools.values(), key=lambda pool: len(pool.accounts))


def place_of(pool: Pool) -> tuple[str, str, bool]:
    """Return the provider and the URL of a pool, and whether it is the operator's."""
    account = pool.accounts[0]
    return account.provider.slug, account.base_url, account.trusted


def project_routes(table: RoutingTable, definitions: Sequence[RouteDefinition]) -> list[Route]:
    """Return the project's routes. Routes with a rule are tried before routes for all requests."""
    ordered = sorted(definitions, key=lambda definition: definition.rule == ANY_REQUEST)
    return [route_from(table, definition, is_projects=True) for definition in ordered]


def model_routes(accounts: Sequence[Account]) -> list[Route]:
    """Return the models that credentials serve without a prefix."""
    names = dict.fromkeys(name for account in accounts for name in sorted(account.models))
    serving = {name: [account for account in accounts if name in account.models] for name in names}
    return [
        Route(name, (RouteTarget(Pool(at_same_place(serving[name][0], serving[name])), name),))
        for name in names
    ]


def file_routes(table: RoutingTable, config: OperatorConfig) -> list[Route]:
    """Return the models of the config file that an account serves, without those that have a separate URL.

    Models with rules come before the model of the same name without a rule.
    """
    named = (
        RouteDefinition(name=model, targets=(account.target,))
        for account in config.accounts
        for model in account.models
    )
    models = [model for model in config.models if not model.base_url]
    return [
        *(with_api(route_from(table, model.definition), model) for model in models),
        *(route_from(table, definition) for definition in named),
    ]


def with_api(route: Route, model: ModelRoute) -> Route:
    """Return the route with the API that the operator has set for this model."""
    if not model.api:
        return route
    targets = [
        replace(target, pool=Pool(tuple(replace(account, api=model.api) for account in target.pool.accounts)))
        for target in route.targets
    ]
    return replace(route, targets=tuple(targets))


def url_routes(operator_accounts: Sequence[Account], config: OperatorConfig) -> list[Route]:
    """Return the models for which the operator has configured a separate URL."""
    routes = []
    for account in operator_accounts:
        for name in account.models:
            model = config.models_by_name.get(name)
            served = (model and model.model) or name
            route = Route(name, (RouteTarget(Pool((account,)), served),))
            routes.append(with_api(route, model) if model else route)
    return routes


def unserved_url_routes(config: OperatorConfig) -> list[Route]:
    """Return routes without targets for models at URLs that the project may not use."""
    return [
        Route(model.name, (), problems=(missing_credential_text(model.provider),))
        for model in config.models
        if model.base_url
    ]


def route_from(table: RoutingTable, definition: RouteDefinition, *, is_projects: bool = False) -> Route:
    """Return the route of a definition. Targets without an account are problems of the route."""
    found = [(target, table.pool(target.provider)) for target in definition.targets]
    return Route(
        definition.name,
        tuple(
            RouteTarget(pool, target.model or definition.name, target.weight, target.timeout_s)
            for target, pool in found
            if pool
        ),
        definition.fallbacks,
        definition.strategy,
        ANY_REQUEST if definition.rule == ANY_REQUEST else definition.rule,
        definition.retry_attempts,
        definition.retry_delay_ms,
        definition.retries_context_length,
        tuple(missing_credential_text(target.provider) for target, pool in found if not pool),
        is_projects,
    )

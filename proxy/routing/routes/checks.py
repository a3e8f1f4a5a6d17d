"""Checks of routes, when they are saved and later, because accounts and other routes can change."""

from collections.abc import Iterator, Sequence

from proxy.errors import GatewayError
from proxy.formats.registry import EMBEDDING_CODECS
from proxy.models.route_definitions import ANY_REQUEST
from proxy.routing.routes.route import Route, RouteTarget
from proxy.routing.routes.table import RoutingTable

EMBEDDING_WORD = "embed"
"""A part of the name of every known embedding model."""


def problems_of(table: RoutingTable, route: Route) -> list[str]:
    """Return the problems that the targets and fallbacks of a route have together."""
    if not route.fallbacks and len(route.targets) == 1:
        return []
    problems = [] if route.targets or route.fallbacks or route.problems else ["It has no target."]
    problems += [text for name in route.fallbacks if (text := fallback_problem(table, route, name))]
    problems += kind_problems([*route.targets, *fallback_targets(table, route)])
    return problems


def fallback_problem(table: RoutingTable, route: Route, name: str) -> str:
    """Return why a fallback cannot be used; empty if it can."""
    if route.name in table.names_before_loops and (path := loop_path(table, route.name, name)):
        return f"Its fallbacks loop: {' → '.join(path)}."
    try:
        found = table.find(name, None)
    except GatewayError as error:
        return f"The fallback {name} cannot be used: {error}"
    if not (found.targets or found.fallbacks):
        return f"The fallback {name} cannot be used: {' '.join(found.problems)}"
    return ""


def loop_path(table: RoutingTable, start: str, fallback: str) -> list[str]:
    """Return the names on the way from a route over a fallback back to the route; else an empty list."""
    paths, seen = [[start, fallback]], {fallback}
    while paths:
        path = paths.pop()
        if path[-1] == start:
            return path
        for name in next_names(table, path[-1]):
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    return []


def next_names(table: RoutingTable, name: str) -> Iterator[str]:
    for route in table.routes.get(name, ()):
        yield from route.fallbacks


def fallback_targets(table: RoutingTable, route: Route) -> Iterator[RouteTarget]:
    """Yield the targets of the routes that are fallbacks of this one."""
    for name in route.fallbacks:
        try:
            yield from table.find(name, None).targets
        except GatewayError:
            continue


def kind_problems(targets: Sequence[RouteTarget]) -> list[str]:
    """Return the problems of targets that cannot serve the same request."""
    embedding = [target for target in targets if EMBEDDING_WORD in target.model.lower()]
    problems = []
    if embedding and len(embedding) < len(targets):
        problems.append("It mixes embedding models with models that generate text.")
    for target in embedding:
        account = target.pool.accounts[0]
        if not EMBEDDING_CODECS.keys() & set(account.formats):
            problems.append(f"{account.provider.name} has no embeddings, so it cannot serve {target.model}.")
    return problems


def unreachable_problem(table: RoutingTable, route: Route) -> str:
    """Return a message if an earlier route serves all requests of this one; else an empty text."""
    for earlier in table.routes[route.name]:
        if earlier is route:
            return ""
        if earlier.rule is ANY_REQUEST or earlier.rule == route.rule:
            return "Another route with this name and the same rule is used instead."
    return ""

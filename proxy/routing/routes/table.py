"""The routing table of a project: every name that a request can use, built once and then looked up.

The time of a lookup does not depend on the number of routes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

from billing import pricing
from proxy import errors
from proxy.models.route_definitions import ANY_REQUEST
from proxy.providers.catalog import ANTHROPIC, DEMO, GEMINI, OPENAI, PROVIDERS
from proxy.routing.accounts import DEMO_ACCOUNT
from proxy.routing.routes.route import Pool, Route, RouteTarget
from proxy.routing.routes.rules import RuleInput, matches

CATALOG_PROVIDERS = (OPENAI, ANTHROPIC, GEMINI)
DEMO_POOL = Pool((DEMO_ACCOUNT,))
CONDITIONAL_HINT = " Its routes have rules, and this request meets none of them."


class RoutingTable:
    """Routes by name, and pools of accounts by the names of providers and accounts.

    Routes with the same name are in the order in which they are tried. `default` serves names that match
    nothing else.
    """

    def __init__(
        self, routes: Mapping[str, Sequence[Route]], pools: Mapping[str, Pool], default: Pool | None
    ) -> None:
        self.routes, self.pools, self.default = routes, pools, default

    @cached_property
    def names_before_loops(self) -> frozenset[str]:
        """The names whose fallbacks lead into a loop.

        They are the names that remain when names whose fallbacks all end are removed one after the other.
        This takes linear time.
        """
        following = {
            name: {fallback for route in routes for fallback in route.fallbacks if fallback in self.routes}
            for name, routes in self.routes.items()
        }
        preceding: defaultdict[str, set[str]] = defaultdict(set)
        for name, names in following.items():
            for fallback in names:
                preceding[fallback].add(name)
        ending = [name for name, names in following.items() if not names]
        while ending:
            name = ending.pop()
            for earlier in preceding[name]:
                following[earlier].discard(name)
                if not following[earlier]:
                    ending.append(earlier)
        return frozenset(name for name, names in following.items() if names)

    def find(self, model: str, given: RuleInput | None) -> Route:
        """Return the route of a model's name. Raises GatewayError.

        If `given` is None, rules are ignored.
        """
        routes = self.routes.get(model, ())
        for route in routes:
            if route.rule is ANY_REQUEST or given is None or matches(route.rule, given):
                return route
        if implicit := self.implicit_route(model):
            return implicit
        raise errors.unknown_model(model, CONDITIONAL_HINT if routes else prefix_hint(model))

    def implicit_route(self, model: str) -> Route | None:
        """Return the route of a name for which no route is defined.

        The name is `provider/model`, a model of the bundled catalog, or a name for the default account.
        Raises GatewayError if the name contains a provider for which there is no account.
        """
        prefix, slash, rest = model.partition("/")
        if slash and rest and prefix in self.pools:
            return Route(model, (RouteTarget(self.pools[prefix], rest),))
        if slash and prefix in PROVIDERS:
            raise missing_credential(model, prefix)
        provider = catalog_provider(model)
        if provider in self.pools:
            return Route(model, (RouteTarget(self.pools[provider], model),))
        return Route(model, (RouteTarget(self.default, model),)) if self.default else None

    def pool(self, name: str) -> Pool | None:
        """Return the accounts that a target names: those of a provider, or a single account."""
        return DEMO_POOL if name == DEMO else self.pools.get(name)


@lru_cache(maxsize=4096)
def catalog_provider(model: str) -> str:
    """Return the provider whose model this is in the bundled catalog; empty if it is not certain.

    The first provider decides, because the catalog lists Anthropic's models for Google's cloud too. It also
    lists names with any prefix for Google, so a name with a prefix is not searched.
    """
    if "/" in model:
        return ""
    listed = (slug for slug in CATALOG_PROVIDERS if is_listed(slug, model))
    return next(listed, "")


def is_listed(provider: str, model: str) -> bool:
    """Return whether the bundled catalog has a model of this provider."""
    return pricing.find_model(PROVIDERS[provider].pricing_provider, model) is not None


def prefix_hint(model: str) -> str:
    """Say what to do about a name with an unknown prefix; empty for a name without one."""
    prefix, slash, rest = model.partition("/")
    if not slash:
        return ""
    return (
        f" {prefix} is neither a provider nor a credential of this project. Call the model as {rest} or "
        f"provider/{rest}, or create a route or a credential with this name."
    )


def missing_credential(model: str, provider: str) -> errors.GatewayError:
    return errors.unknown_model(model, f" {missing_credential_text(provider)}" if provider != DEMO else "")


def missing_credential_text(provider: str) -> str:
    name = PROVIDERS[provider].name if provider in PROVIDERS else provider
    return f"It needs a credential for {name}."

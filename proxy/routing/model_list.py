"""Lists and numbers of models: what can be called, and what each model can do."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from genai_prices.data_snapshot import get_snapshot

from billing.pricing import Price
from billing.pricing.price_list import PriceList
from billing.pricing.retirements import Retirement
from proxy.providers import demo
from proxy.providers.catalog import PROVIDERS
from proxy.providers.model_features import ModelFeatures, features_of
from proxy.routing import config_file
from proxy.routing.accounts import Account, load_operator_accounts
from proxy.routing.routes.builder import build_table
from proxy.routing.routes.model_life import retirement_of, served_model, today
from proxy.routing.routes.route import Route
from proxy.routing.routes.table import CATALOG_PROVIDERS, RoutingTable
from proxy.routing.targets import price_for

FINE_TUNED_MARK = ":"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that a project can call: its name, and what the first target serves under this name.

    `owner` is the provider or the credential. `served` is the model's name there. It differs from `name` if a
    route or the successor of a retired model serves the name.
    """

    name: str
    owner: str
    served: str
    features: ModelFeatures
    price: Price | None
    retirement: Retirement | None

    def has_ended(self, today: dt.date) -> bool:
        """Return whether the named model is retired."""
        return self.retirement is not None and self.retirement.date <= today


def configured_models(table: RoutingTable, prices: PriceList, today: dt.date) -> Iterator[ListedModel]:
    """Yield the names that are configured, in the order of the routing table."""
    for name, routes in table.routes.items():
        if listed := describe(table, routes[0], name, prices, today):
            yield listed


def catalog_models(table: RoutingTable, prices: PriceList, today: dt.date) -> Iterator[ListedModel]:
    """Yield the models of the bundled catalog that the project's accounts serve and that are not retired."""
    for provider in CATALOG_PROVIDERS:
        pool = table.pools.get(provider)
        for model in bundled_names(PROVIDERS[provider].pricing_provider) if pool else ():
            account = pool.accounts[0] if pool else None
            if account and model not in table.routes:
                listed = list_model(model, account, model, prices, today)
                # Features are known for models that generate text, and for embeddings.
                if listed.price and listed.features.tools is not None and not listed.has_ended(today):
                    yield listed


def bundled_names(pricing_provider: str) -> Iterator[str]:
    """Yield the names of a provider's models in genai-prices, without those of fine-tuned models."""
    for provider in get_snapshot().providers:
        if provider.id == pricing_provider:
            names = (model.id for model in provider.models)
            yield from (name for name in names if FINE_TUNED_MARK not in name and is_own(provider.id, name))


def is_own(pricing_provider: str, name: str) -> bool:
    """Return whether a provider's API serves a model. Google's other cloud sells models of Anthropic too."""
    return pricing_provider != "google" or not name.startswith("claude")


def describe(
    table: RoutingTable, route: Route, name: str, prices: PriceList, today: dt.date
) -> ListedModel | None:
    """Return the model that the first target of a route serves, or None if the route cannot be used."""
    seen = {name}
    while not route.targets:
        following = next((fallback for fallback in route.fallbacks if fallback in table.routes), None)
        if following is None or following in seen:
            return None
        seen.add(following)
        route = table.routes[following][0]
    target = route.targets[0]
    return list_model(name, target.pool.accounts[0], target.model, prices, today)


def list_model(name: str, account: Account, model: str, prices: PriceList, today: dt.date) -> ListedModel:
    served = served_model(account, model, today)
    return ListedModel(
        name,
        account.slug,
        served,
        features_of(account.provider, served),
        price_for(account, served, prices),
        retirement_of(account, model),
    )


class ModelCounter:
    """Counts the models that the operator serves. The count is kept, because the catalog is large."""

    def __init__(self) -> None:
        self.accounts: tuple[Account, ...] | None = None
        self.counted_on = dt.date.min
        self.counted = 0

    def count(self) -> int:
        """Return the number of configured names.

        If none is configured, return the number of models in the catalog that the operator's accounts serve.
        The demo models count only if there are no others.
        """
        accounts, day = load_operator_accounts(), today()
        if accounts is not self.accounts or day != self.counted_on:
            self.accounts, self.counted_on, self.counted = accounts, day, count_models(accounts, day)
        return self.counted


def count_models(accounts: tuple[Account, ...], today: dt.date) -> int:
    table = build_table((), (), accounts, config_file.load())
    names = {name for name, routes in table.routes.items() if any(not route.problems for route in routes)}
    configured = names.difference(demo.MODELS)
    return len(configured) or sum(1 for _ in catalog_models(table, PriceList(()), today)) or len(demo.MODELS)


model_counter = ModelCounter()

"""Accounts and models of the operator: for the running gateway, and for lookups without a database."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from billing.pricing.price_list import PriceList
from proxy.models.route_definitions import RouteDefinition
from proxy.routing import accounts, config_file
from proxy.routing.accounts import Account
from proxy.routing.resolve import Lookup
from proxy.routing.routes.builder import build_table
from proxy.routing.routes.rules import RuleInput
from proxy.routing.targets import Resolution

TODAY = dt.date(2026, 12, 1)


@contextmanager
def operator_accounts(root: str, config: Path) -> Iterator[None]:
    """Configure the operator's accounts of Anthropic and Gemini at `root`, and the models in `config`."""
    variables = {
        "anthropic_base_url": root,
        "anthropic_api_key": "sk-anthropic",
        "gemini_base_url": root,
        "gemini_api_key": "sk-gemini",
        "ai_gateway_config": config,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ENV", settings.ENV.model_copy(update=variables))
        forget_configuration()
        yield
    forget_configuration()


def forget_configuration() -> None:
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()


def resolution(
    model: str,
    own: Sequence[Account] = (),
    operator: Sequence[Account] = (),
    routes: Sequence[RouteDefinition] = (),
    given: RuleInput | None = None,
    today: dt.date = TODAY,
) -> Resolution:
    """Return the resolution of a model by a project's accounts and routes, and the operator's accounts."""
    table = build_table(routes, own, operator, config_file.load())
    return Lookup(table, given, PriceList(()), today).resolution(model)


def first_target(
    model: str, own: Sequence[Account] = (), operator: Sequence[Account] = ()
) -> tuple[Account, str]:
    """Return the account and the model's name of the first target."""
    target = resolution(model, own, operator).targets[0]
    return target.account, target.model

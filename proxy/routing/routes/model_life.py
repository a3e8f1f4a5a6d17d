"""Retirement of models: the model that serves a name, and the response headers about retirements.

Retirements apply only to the vendor's own API. Azure deployments, compatible servers and routed hosts have
other schedules.
"""

import datetime as dt

from billing.pricing.retirements import Retirement, current_model, find_retirement
from proxy.providers.catalog import ANTHROPIC, GEMINI, OPENAI, PROVIDERS
from proxy.routing.accounts import Account

VENDORS = (OPENAI, ANTHROPIC, GEMINI)
RETIREMENT_HEADER = "x-gateway-model-retirement"
REDIRECT_HEADER = "x-gateway-redirected-from"
EARLY = dt.timedelta(days=180)
"""How long before its retirement day a default model is replaced by its successor.

No client has named such a model, so nobody has to change a request.
"""


def today() -> dt.date:
    """Return the current day in UTC."""
    return dt.datetime.now(dt.UTC).date()


def is_vendors_own(account: Account) -> bool:
    """Return whether an account uses the API of the vendor that makes the models."""
    provider = account.provider
    if provider.slug not in VENDORS:
        return False
    base_url = account.base_url or provider.base_url
    return base_url == PROVIDERS[provider.slug].base_url or provider.is_regional(base_url)


def retirement_of(account: Account, model: str) -> Retirement | None:
    """Return the announced retirement of a model at an account, or None."""
    retirement = find_retirement(account.provider.pricing_provider, model)
    return retirement if retirement and is_vendors_own(account) else None


def served_model(account: Account, model: str, today: dt.date) -> str:
    """Return the model that serves a name: the model itself, or its successor after its retirement day."""
    retirement = retirement_of(account, model)
    return model if retirement is None else current_model(retirement, model, today)


def life_headers(account: Account, model: str, served: str) -> dict[str, str]:
    """Return the headers about the retirement of a model that was named, and about its redirect.

    If another model serves the name, for example by a route, it is named as the successor.
    """
    retirement = retirement_of(account, model)
    if retirement is None:
        return {}
    following = retirement.successor if served == model else served
    successor = f"; successor={following}" if following else ""
    headers = {RETIREMENT_HEADER: f"{retirement.date.isoformat()}{successor}"}
    return headers | {REDIRECT_HEADER: model} if served != model else headers

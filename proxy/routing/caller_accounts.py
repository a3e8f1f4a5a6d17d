"""Accounts of callers, whose requests carry their own key for the provider ("bring your own key").

The model decides the provider, as without such a key. The request is then sent to the provider's own URL with
the caller's key, never to the URL of a project's credential, whose owner could read the key. If the operator
allows callers without a key of the gateway (AI_GATEWAY_AUTH=open), all callers use the operator's accounts.
Their requests are therefore sent to the operator's URLs, by the rule for the operator's own keys: any other
URL is called without a key.

An account of a caller exists for one request. It is not stored, and no other request uses it.
"""

from dataclasses import replace

from django.conf import settings

from billing.pricing.price_list import price_lists
from keys.authentication import Principal
from proxy import errors
from proxy.errors import GatewayError
from proxy.providers.catalog import OPENAI, PROVIDERS
from proxy.providers.provider import HTTP_CLIENT, Provider
from proxy.routing import config_file
from proxy.routing.accounts import Account, operator_accounts_for, project_accounts_cache
from proxy.routing.resolve import resolve
from proxy.routing.routes.model_life import life_headers, served_model, today
from proxy.routing.routes.rules import RuleInput
from proxy.routing.routes.table import catalog_provider
from proxy.routing.targets import Resolution, Target, price_for


async def resolve_with_key(
    principal: Principal, model: str, given: RuleInput | None, provider_key: str, *, is_anonymous: bool
) -> Resolution:
    """Return the targets of a model, to be called with a caller's key.

    These are the targets at the provider of the first target, because the key belongs to one provider. A
    provider is found even if the project has no credential for it. Raises GatewayError if no provider serves
    the model, or if the provider cannot be called with a caller's key.
    """
    resolution = await resolve_or_default(principal, model, given, is_anonymous=is_anonymous)
    provider = resolution.targets[0].account.provider
    price_list = await price_lists.get(principal.project_id)
    targets: dict[tuple[str, str], Target] = {}
    for target in resolution.targets:
        account = account_with_key(target.account, provider_key, is_anonymous=is_anonymous)
        if account is not None and account.provider.slug == provider.slug:
            price = price_for(account, target.model, price_list)
            # With the caller's key, several credentials of a project are the same account.
            targets.setdefault(
                (account.base_url, target.model), replace(target, account=account, price=price)
            )
    if not targets:
        raise errors.provider_key_unusable(provider.name)
    return replace(resolution, targets=tuple(targets.values()))


async def resolve_or_default(
    principal: Principal, model: str, given: RuleInput | None, *, is_anonymous: bool
) -> Resolution:
    """Return the targets of a model, or else a target at the provider that the name implies.

    Raises GatewayError if the model has no targets and the name implies no provider.
    """
    try:
        return await resolve(principal, model, given)
    except GatewayError as error:
        provider, name = implied_provider(model, is_anonymous=is_anonymous)
        if provider is None or error.api_error.code == errors.INVALID_ROUTE:
            raise
    account, env = Account(provider.slug, provider, provider.base_url, ""), settings.ENV
    served = served_model(account, name, today())
    return Resolution(
        (Target(account, served, None),),
        env.ai_gateway_retry_attempts,
        env.ai_gateway_retry_delay_ms,
        headers=life_headers(account, name, served),
    )


def implied_provider(model: str, *, is_anonymous: bool) -> tuple[Provider | None, str]:
    """Return the provider that a model's name implies, and the model's name there.

    The name may contain the provider, or the provider may have a price for the model. For callers without a
    key, it may be a model of the config file; any other name belongs to the default provider, or to OpenAI as
    in other gateways.
    """
    config = config_file.load()
    if is_anonymous and model in config.models_by_name:
        first = config.models_by_name[model].definition.targets[0]
        if first.provider in PROVIDERS:
            return PROVIDERS[first.provider], first.model or model
    prefix, _, rest = model.partition("/")
    if rest and prefix in PROVIDERS:
        return PROVIDERS[prefix], rest
    if slug := catalog_provider(model):
        return PROVIDERS[slug], model
    default = PROVIDERS.get(config.default_provider, PROVIDERS[OPENAI])
    return (default, model) if is_anonymous else (None, model)


def account_with_key(account: Account, provider_key: str, *, is_anonymous: bool) -> Account | None:
    """Return the account of a caller at the same provider; None if there is no URL for the caller's key."""
    # An account of the config file may have a provider with other URLs.
    provider = PROVIDERS[account.provider.slug]
    if provider.client != HTTP_CLIENT:
        return account
    if is_anonymous and account.trusted:
        is_permitted = account.permits_caller_keys
        return replace(account, secret=provider_key, is_callers=True) if is_permitted else account
    if not provider.has_public_url:
        return None
    return Account(account.slug, provider, provider.base_url, provider_key, is_callers=True)


async def accounts_with_key(
    principal: Principal, provider_key: str, *, is_anonymous: bool
) -> tuple[Account, ...]:
    """Return the accounts that a caller's key may belong to."""
    configured = (*await project_accounts_cache.get(principal.project_id), *operator_accounts_for(principal))
    public = (Account(slug, provider, "", "") for slug, provider in PROVIDERS.items())
    accounts = (
        account_with_key(account, provider_key, is_anonymous=is_anonymous)
        for account in (*configured, *public)
    )
    return tuple(account for account in accounts if account is not None and account.is_callers)

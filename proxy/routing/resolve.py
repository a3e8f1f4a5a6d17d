"""Find the account that serves a model, and the model's name at that account.

The sources are searched in this order, and the first one that has the name decides: the project's own
credentials, the operator's YAML file, AI_GATEWAY_MODEL_ROUTES, `provider/model`, the bundled prices, the
default provider.
"""

from dataclasses import replace

from django.conf import settings

from billing import pricing
from billing.pricing.price_list import price_lists
from keys.authentication import Principal
from proxy import errors
from proxy.providers import demo
from proxy.providers.catalog import DEMO, OPENAI, PROVIDERS
from proxy.routing import config_file
from proxy.routing.accounts import DEMO_ACCOUNT, Account, operator_accounts_for, project_accounts_cache
from proxy.routing.config_file import ModelRoute
from proxy.routing.targets import Resolution, Target, price_for

CATALOG_PROVIDERS = (OPENAI, "anthropic", "gemini")


async def resolve(principal: Principal, model: str) -> Resolution:
    """Return the targets of a model, and how calls are repeated.

    Raises GatewayError if no provider of the project serves the model, or if the credential cannot be
    decrypted.
    """
    accounts = await project_accounts_cache.get(principal.project_id)
    account, name = resolve_account(model, accounts, operator_accounts_for(principal))
    if account.secret is None:
        raise errors.credential_unreadable()
    target = Target(account, name, price_for(account, name, await price_lists.get(principal.project_id)))
    env = settings.ENV
    return Resolution((target,), env.ai_gateway_retry_attempts, env.ai_gateway_retry_delay_ms)


def resolve_account(
    model: str, project_accounts: tuple[Account, ...], operator_accounts: tuple[Account, ...]
) -> tuple[Account, str]:
    """Return the account that serves a model, and the model's name there. Raises GatewayError."""
    if exact := explicit_route(model, project_accounts, operator_accounts):
        return exact, model
    by_name = accounts_by_name(project_accounts, operator_accounts)
    prefix, slash, rest = model.partition("/")
    if slash and rest and prefix in by_name:
        return by_name[prefix], rest
    if slash and prefix in PROVIDERS:
        raise missing_credential(model, prefix)
    for slug in CATALOG_PROVIDERS:
        if slug in by_name and pricing.find_model(PROVIDERS[slug].pricing_provider, model):
            return by_name[slug], model
    return default_account(model, by_name), model


def explicit_route(
    model: str, project_accounts: tuple[Account, ...], operator_accounts: tuple[Account, ...]
) -> Account | None:
    """Return the account that is configured for exactly this model name, or None."""
    config = config_file.load()
    for account in project_accounts:
        if model in account.models:
            return account
    if (route := config.models_by_name.get(model)) and not route.base_url:
        by_name = {DEMO: DEMO_ACCOUNT, **accounts_by_name(project_accounts, operator_accounts)}
        if route.provider not in by_name:
            raise missing_credential(model, route.provider)
        return with_api(by_name[route.provider], route)
    for account in operator_accounts:
        if model in account.models:
            return with_api(account, route) if route else account
    if route:
        raise missing_credential(model, route.provider)
    return DEMO_ACCOUNT if model in demo.MODELS else None


def with_api(account: Account, route: ModelRoute) -> Account:
    """Return the account with the API that the operator has set for this model."""
    return replace(account, api=route.api) if route.api else account


def accounts_by_name(
    project_accounts: tuple[Account, ...], operator_accounts: tuple[Account, ...]
) -> dict[str, Account]:
    """Return accounts by provider and by name. A project's account takes precedence over the operator's."""
    general = [account for account in operator_accounts if not account.models]
    by_provider = {account.provider.slug: account for account in (*general, *reversed(project_accounts))}
    return by_provider | {account.slug: account for account in project_accounts}


def missing_credential(model: str, provider: str) -> errors.GatewayError:
    hint = "" if provider == DEMO else f" It needs a credential for {PROVIDERS[provider].name}."
    return errors.unknown_model(model, hint)


def default_account(model: str, accounts_by_slug: dict[str, Account]) -> Account:
    """Return the operator's default provider, or the only account.

    Raises GatewayError if there is neither.
    """
    chosen = config_file.load().default_provider
    if chosen == DEMO:
        return DEMO_ACCOUNT
    if chosen in accounts_by_slug:
        return accounts_by_slug[chosen]
    accounts = set(accounts_by_slug.values())
    if len(accounts) == 1:
        return accounts.pop()
    raise errors.unknown_model(model)


async def available_models(principal: Principal) -> dict[str, str]:
    """Return the models that the key may use by name. Each has its provider or credential."""
    project_accounts = await project_accounts_cache.get(principal.project_id)
    operator_accounts = operator_accounts_for(principal)
    config, by_name = config_file.load(), accounts_by_name(project_accounts, operator_accounts)
    names = {name: account.slug for account in project_accounts for name in sorted(account.models)}
    served = (model for model in config.models if model.provider in by_name or model.provider == DEMO)
    names |= {model.name: model.provider for model in served if not model.base_url}
    names |= {name: account.slug for account in operator_accounts for name in account.models}
    names |= dict.fromkeys(demo.MODELS, DEMO)
    return {name: owner for name, owner in names.items() if principal.allows_model(name)}

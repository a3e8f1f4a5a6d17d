"""From the name of a model to where it is served, and with whose credential.

The first that knows the name wins: the project's own credentials, the operator's YAML file, AI_GATEWAY_MODEL_ROUTES,
`provider/model`, the bundled catalogue, the default provider.
"""

from dataclasses import dataclass, replace

from billing import prices
from billing.pricelist import PriceList, price_lists
from billing.prices import Price
from keys.authentication import Grant
from proxy import errors, operator_config
from proxy.accounts import DEMO_ACCOUNT, Account, accounts_of_project, operators_accounts
from proxy.formats import openai_responses
from proxy.formats.neutral import Call
from proxy.formats.tokens import TOKEN_BYTES
from proxy.providers import DEMO, OPENAI, PROVIDERS, demo

CATALOGUED = (OPENAI, "anthropic", "gemini")


@dataclass(frozen=True, slots=True)
class Target:
    """Where one request goes. `price` is None for a model without a known price."""

    account: Account
    model: str
    price: Price | None

    @property
    def is_demo(self) -> bool:
        return self.account is DEMO_ACCOUNT

    def default_output(self, call: Call) -> int | None:
        """Tokens that the model gives where the client sets no limit; None where that is not known beforehand."""
        return demo.DEFAULT_TOKENS * call.choices if self.is_demo else None

    def input_estimate(self, call: Call) -> int:
        """What the input probably counts at this model: the demo counts bytes, others about four of them a token."""
        return call.input_bound if self.is_demo else -(-call.input_bound // TOKEN_BYTES)


async def resolve(grant: Grant, model: str) -> Target:
    """Raises GatewayError where no provider of this project serves the model, or its credential cannot be read."""
    own = await accounts_of_project.get(grant.project_id)
    account, name = find(model, own, operators_accounts(grant))
    if account.secret is None:
        raise errors.credential_unreadable()
    return Target(account, name, price_of(account, name, await price_lists.get(grant.project_id)))


def find(model: str, own: tuple[Account, ...], operators: tuple[Account, ...]) -> tuple[Account, str]:
    """The account that serves a model, and the model's name there."""
    if exact := configured(model, own, operators):
        return exact, model
    by_name = names_of_accounts(own, operators)
    prefix, slash, rest = model.partition("/")
    if slash and rest and prefix in by_name:
        return by_name[prefix], rest
    if slash and prefix in PROVIDERS:
        raise without_account(model, prefix)
    for slug in CATALOGUED:
        if slug in by_name and prices.find(PROVIDERS[slug].prices_id, model):
            return by_name[slug], model
    return default(model, by_name), model


def configured(model: str, own: tuple[Account, ...], operators: tuple[Account, ...]) -> Account | None:
    """The account that someone has named for exactly this model."""
    config = operator_config.current()
    for account in own:
        if model in account.models:
            return account
    if (route := config.by_name.get(model)) and not route.base_url:
        by_name = {DEMO: DEMO_ACCOUNT, **names_of_accounts(own, operators)}
        if route.provider not in by_name:
            raise without_account(model, route.provider)
        account = by_name[route.provider]
        return replace(account, preferred=openai_responses.NAME) if route.api == "responses" else account
    for account in operators:
        if model in account.models:
            is_responses = route is not None and route.api == "responses"
            return replace(account, preferred=openai_responses.NAME) if is_responses else account
    if route:
        raise without_account(model, route.provider)
    return DEMO_ACCOUNT if model in demo.MODELS else None


def names_of_accounts(own: tuple[Account, ...], operators: tuple[Account, ...]) -> dict[str, Account]:
    """Accounts by provider and by their own names; a project's own credential stands before the operator's."""
    general = [account for account in operators if not account.models]
    by_provider = {account.provider.slug: account for account in (*general, *reversed(own))}
    return by_provider | {account.slug: account for account in own}


def without_account(model: str, provider: str) -> errors.GatewayError:
    hint = "" if provider == DEMO else f" It needs a credential for {PROVIDERS[provider].name}."
    return errors.unknown_model(model, hint)


def default(model: str, by_name: dict[str, Account]) -> Account:
    """The operator's default provider, or the only account there is."""
    chosen = operator_config.current().default_provider
    if chosen == DEMO:
        return DEMO_ACCOUNT
    if chosen in by_name:
        return by_name[chosen]
    accounts = set(by_name.values())
    if len(accounts) == 1:
        return accounts.pop()
    raise errors.unknown_model(model)


def price_of(account: Account, model: str, price_list: PriceList) -> Price | None:
    if account is DEMO_ACCOUNT:
        return demo.PRICE
    return price_list.find((account.slug, account.provider.slug), account.provider.prices_id, model)


async def listed(grant: Grant) -> dict[str, str]:
    """Models that the key may use by name, each with who serves it; `demo/chat` stands before the other demo models."""
    own, operators = await accounts_of_project.get(grant.project_id), operators_accounts(grant)
    config, by_name = operator_config.current(), names_of_accounts(own, operators)
    names = {name: account.slug for account in own for name in sorted(account.models)}
    served = (model for model in config.models if model.provider in by_name or model.provider == DEMO)
    names |= {model.name: model.provider for model in served if not model.base_url}
    names |= {name: account.slug for account in operators for name in account.models}
    names |= dict.fromkeys(demo.MODELS, DEMO)
    return {name: owner for name, owner in names.items() if grant.allows_model(name)}

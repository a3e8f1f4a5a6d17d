"""Accounts at providers: those of projects, from stored credentials, and those of the operator."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from django.conf import settings

from billing.pricing import find_model
from keys.authentication import Principal
from projects.config_cache import ConfigCache
from projects.models import Project
from projects.vault import DecryptionError
from proxy.models import Credential
from proxy.providers.base_urls import normalize_base_url
from proxy.providers.catalog import ANTHROPIC, DEMO, GEMINI, OPENAI, PROVIDERS
from proxy.providers.provider import (
    CHAT_FORMAT,
    GEMINI_FORMAT,
    MESSAGES_FORMAT,
    RESPONSES_FORMAT,
    Provider,
)
from proxy.routing import config_file
from proxy.routing.config_file import AccountDefinition
from proxy.routing.operator_keys import DEFAULT_UPSTREAMS, configured_key, default_upstream, key_for
from proxy.routing.operator_routes import Route, environment_routes, yaml_routes

VENDORS = (OPENAI, ANTHROPIC, GEMINI)
FORMAT_OWNERS = {MESSAGES_FORMAT: ANTHROPIC, GEMINI_FORMAT: GEMINI}
"""The provider for which `normalize_base_url` changes the URL of a format. Other formats keep the URL."""
CALLERS_NAMESPACE = "caller's"
"""Namespace of ids in accounts of callers. No credential has this name, because it is not a slug."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider.

    `secret` is None if it cannot be decrypted. `trusted` is true if the operator, not a tenant, configured
    the base URL. `api` is the operator's setting for OpenAI's APIs: `chat` if the server has only chat
    completions, `responses` if requests are to be converted to the Responses API. `is_callers` is true if
    `secret` is a key that a caller sent with a request. Only this request uses the account.
    `permits_caller_keys` is true if the operator's URL may receive a caller's key.
    """

    slug: str
    provider: Provider
    base_url: str
    secret: str | None = field(repr=False)
    models: frozenset[str] = frozenset()
    trusted: bool = False
    api: str = ""
    is_callers: bool = False
    permits_caller_keys: bool = False

    @property
    def can_be_shared(self) -> bool:
        """Return whether several projects may use this account.

        The operator can allow any project to use the operator's accounts. A project's account serves only
        that project, and a caller's account only that caller.
        """
        return self.trusted and not self.is_callers

    @property
    def id_namespace(self) -> str:
        """Return the namespace of the ids that this account issues. Other accounts may issue equal ids.

        The name of a project's account is included, because two accounts of a project may have the same URL.
        """
        if self.is_callers:
            return f"{CALLERS_NAMESPACE} {self.provider.slug} {self.base_url}"
        name = "" if self.trusted else f"{self.slug} "
        return f"{name}{self.provider.slug} {self.base_url}"

    @property
    def formats(self) -> tuple[str, ...]:
        """Return the supported formats. Conversions prefer the first one.

        If the account has another base URL than the provider, it replaces the provider's main URL. The
        formats that the provider serves at other URLs are then not available.
        """
        base_urls = self.provider.base_urls
        if self.base_url not in ("", self.provider.base_url):
            base_urls = {format: url for format, url in base_urls.items() if url == self.provider.base_url}
        if self.api == "chat" and CHAT_FORMAT in base_urls:
            return tuple(format for format in base_urls if format != RESPONSES_FORMAT)
        return tuple(base_urls)

    def format_for(self, client_format: str) -> str:
        """Return the format to send a client's request in: the client's own if the account has it."""
        formats = self.formats
        if client_format in formats:
            return client_format
        return RESPONSES_FORMAT if self.api == "responses" and RESPONSES_FORMAT in formats else formats[0]

    def url(self, format: str, path: str, model: str) -> str:
        """Return the complete URL for a path.

        It includes the model's name if the provider expects it there.
        """
        has_own_url = self.base_url not in ("", self.provider.base_url)
        base = self.base_url if has_own_url else self.provider.base_urls[format]
        query = (
            f"{'&' if '?' in path else '?'}{self.provider.query_string}" if self.provider.query_string else ""
        )
        prefix = self.provider.path_prefix and self.provider.path_prefix.format(model=quote(model, safe=""))
        return f"{base}{prefix}{path}{query}"


DEMO_ACCOUNT = Account(DEMO, PROVIDERS[DEMO], "", "")


def load_accounts(project_id: int) -> tuple[Account, ...]:
    return tuple(
        account_from_credential(credential)
        for credential in Credential.objects.filter(project=project_id).order_by("pk")
    )


def account_from_credential(credential: Credential) -> Account:
    try:
        secret: str | None = credential.decrypt_secret()
    except DecryptionError:
        secret = None
    provider = PROVIDERS[credential.provider]
    base_url = normalize_base_url(provider, credential.base_url or provider.base_url)
    return Account(credential.slug, provider, base_url, secret, frozenset(credential.model_names))


project_accounts_cache: ConfigCache[int, tuple[Account, ...]] = ConfigCache(load_accounts)


def load_has_other_operator_users(project_id: int) -> bool:
    """Return whether any other project may use the operator's accounts."""
    return Project.objects.filter(uses_operator_credentials=True).exclude(pk=project_id).exists()


has_other_operator_users_cache: ConfigCache[int, bool] = ConfigCache(load_has_other_operator_users)
"""For each project id: whether any other project may use the operator's accounts."""


def operator_accounts_for(user: Principal | Project) -> tuple[Account, ...]:
    """Return the operator's accounts if the operator has allowed the key's project to use them."""
    return load_operator_accounts() if user.uses_operator_credentials else ()


@lru_cache(maxsize=1)
def load_operator_accounts() -> tuple[Account, ...]:
    """Return the accounts for any model of a provider, then the accounts of single model routes.

    Accounts of the environment come before those of the config file, but model routes of the environment come
    after those of the file. If two routes have the same model name, the first one is used.
    """
    config = config_file.load()
    defaults = ((slug, default_upstream(slug), configured_key(slug)[1]) for slug in DEFAULT_UPSTREAMS)
    general = [default_account(*default) for default in defaults if default[1] or default[2]]
    api = settings.ENV.openai_api
    general = [replace(account, api=api) if account.slug == OPENAI else account for account in general]
    return (
        *general,
        *(account_from_definition(definition) for definition in config.accounts),
        *(account_for_model_route(route) for route in (*yaml_routes(config), *environment_routes(config))),
    )


def default_account(slug: str, base_url: str, secret: str) -> Account:
    """Return the operator's account for any model of a provider."""
    url = base_url or PROVIDERS[slug].base_url
    is_permitted = key_for(slug, url, requested=False).is_permitted
    return operator_account(slug, base_url, secret, permits_caller_keys=is_permitted)


def operator_account(
    slug: str,
    base_url: str,
    secret: str,
    models: frozenset[str] = frozenset(),
    *,
    permits_caller_keys: bool = False,
) -> Account:
    provider = PROVIDERS[slug]
    base_url = normalize_base_url(provider, base_url or provider.base_url)
    return Account(
        slug, provider, base_url, secret, models, trusted=True, permits_caller_keys=permits_caller_keys
    )


def account_for_model_route(route: Route) -> Account:
    """Return the account of one model.

    If `priced_as` is set, the model has the price that its vendor lists for this name, even if another server
    runs the model.
    """
    account = operator_account(
        route.provider,
        route.base_url,
        route.key.secret,
        frozenset({route.model}),
        permits_caller_keys=route.key.is_permitted,
    )
    vendor = route.priced_as and (account.provider.pricing_provider or vendor_of(route.priced_as))
    return replace(account, provider=replace(account.provider, pricing_provider=vendor))


def vendor_of(model: str) -> str:
    """Return the first vendor that lists a price for a model, as its `pricing_provider`; empty if none."""
    listing = (PROVIDERS[slug].pricing_provider for slug in VENDORS)
    return next((vendor for vendor in listing if find_model(vendor, model)), "")


def account_from_definition(definition: AccountDefinition) -> Account:
    """Return an account of the config file.

    An account without a key uses the key of the environment, if its URL may receive this key (`key_for`).
    """
    provider = PROVIDERS[definition.provider]
    base_url = normalize_base_url(provider, definition.base_url or provider.base_url)
    changes: dict[str, Any] = {"quirks": definition.replaced_quirks(provider.quirks)}
    if definition.api_version:
        changes["query_string"] = f"api-version={quote(definition.api_version)}"
    if definition.formats:
        urls = {format: format_url(provider, base_url, format) for format in definition.formats}
        base_url, changes["base_urls"] = urls[definition.formats[0]], urls
    key = key_for(definition.provider, base_url, requested=False)
    return Account(
        definition.name,
        replace(provider, **changes),
        base_url,
        definition.secret() or key.secret,
        trusted=True,
        api=definition.api,
        permits_caller_keys=key.is_permitted,
    )


def format_url(provider: Provider, base_url: str, format: str) -> str:
    """Return the URL to which the paths of a format are appended, at a server with this base URL."""
    if base_url == provider.base_url and format in provider.base_urls:
        return provider.base_urls[format]
    owner = FORMAT_OWNERS.get(format)
    return normalize_base_url(PROVIDERS[owner], base_url) if owner else base_url

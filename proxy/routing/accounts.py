"""Accounts at providers, as gateway processes remember them: a project's credentials and the operator's own."""

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from keys.authentication import Principal
from projects.config_cache import ConfigCache
from projects.vault import DecryptionError
from proxy.models import Credential
from proxy.providers.catalog import DEMO, PROVIDERS, Provider
from proxy.routing import config_file
from proxy.routing.operator_keys import DEFAULT_UPSTREAMS, configured_key, default_upstream
from proxy.routing.operator_routes import Route, environment_routes, yaml_routes


@dataclass(frozen=True, slots=True)
class Account:
    """`secret` is None where no encryption key opens it. The operator's own addresses are `trusted`, a tenant's are not."""

    slug: str
    provider: Provider
    base_url: str
    secret: str | None
    models: frozenset[str] = frozenset()
    trusted: bool = False
    preferred_format: str = ""
    """The format that conversions use, where it is not the provider's first."""

    @property
    def is_shared(self) -> bool:
        """Whether several projects may use it: the operator's own accounts, from the first request on."""
        return self.trusted and self.provider.slug != DEMO

    @property
    def identity(self) -> str:
        """What tells this account from others in which the same id could exist."""
        return f"{self.provider.slug} {self.base_url}"

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats that are spoken at this address, the one that conversions prefer first. An address of the account's own stands
        for the provider's main one; formats that the provider has elsewhere are then out of reach.
        """
        bases = self.provider.base_urls
        if self.base_url in ("", self.provider.base_url):
            return tuple(bases)
        return tuple(format for format, base in bases.items() if base == self.provider.base_url)

    def format_for(self, client_format: str) -> str:
        if client_format in self.formats:
            return client_format
        return self.preferred_format if self.preferred_format in self.formats else self.formats[0]

    def url(self, format: str, path: str, model: str) -> str:
        own = self.base_url not in ("", self.provider.base_url)
        base = self.base_url if own else self.provider.base_urls[format]
        query = (
            f"{'&' if '?' in path else '?'}{self.provider.query_string}" if self.provider.query_string else ""
        )
        return f"{base}{self.provider.path_prefix.format(model=quote(model, safe=''))}{path}{query}"


DEMO_ACCOUNT = Account(DEMO, PROVIDERS[DEMO], "", "", trusted=True)


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
    base_url = (credential.base_url or provider.base_url).rstrip("/")
    return Account(credential.slug, provider, base_url, secret, frozenset(credential.model_names))


project_accounts_cache: ConfigCache[int, tuple[Account, ...]] = ConfigCache(load_accounts)


def operator_accounts_for(principal: Principal) -> tuple[Account, ...]:
    """The operator's accounts, which only projects that an operator has marked may spend from."""
    return accounts_from_environment() if principal.uses_operator_credentials else ()


@lru_cache(maxsize=1)
def accounts_from_environment() -> tuple[Account, ...]:
    """Return the accounts of the providers, then those of single models: the first route of a name wins."""
    config = config_file.load()
    defaults = ((slug, default_upstream(slug), configured_key(slug)[1]) for slug in DEFAULT_UPSTREAMS)
    named = [operator_account(*default) for default in defaults if default[1] or default[2]]
    return (
        *named,
        *(account_for_model_route(route) for route in (*yaml_routes(config), *environment_routes(config))),
    )


def operator_account(slug: str, base_url: str, secret: str, models: frozenset[str] = frozenset()) -> Account:
    provider = PROVIDERS[slug]
    return Account(slug, provider, (base_url or provider.base_url).rstrip("/"), secret, models, trusted=True)


def account_for_model_route(route: Route) -> Account:
    return operator_account(route.provider, route.base_url, route.key.secret, frozenset({route.model}))

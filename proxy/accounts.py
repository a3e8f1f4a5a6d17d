"""Accounts at providers, as gateway processes remember them: a project's credentials and the operator's own."""

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote

from keys.authentication import Grant
from projects.configcache import ConfigCache
from projects.vault import Undecipherable
from proxy import operator_config
from proxy.models import Credential
from proxy.operator_keys import DEFAULT_UPSTREAMS, configured_key, default_upstream
from proxy.operator_routes import Route, environment_routes, yaml_routes
from proxy.providers import DEMO, PROVIDERS, Provider


@dataclass(frozen=True, slots=True)
class Account:
    """`secret` is None where no encryption key opens it. The operator's own addresses are `trusted`, a tenant's are not."""

    slug: str
    provider: Provider
    base_url: str
    secret: str | None
    models: frozenset[str] = frozenset()
    trusted: bool = False
    preferred: str = ""
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
        for the provider's main one; formats that the provider has elsewhere are then out of reach."""
        bases = self.provider.bases
        if self.base_url in ("", self.provider.base_url):
            return tuple(bases)
        return tuple(format for format, base in bases.items() if base == self.provider.base_url)

    def format_for(self, client: str) -> str:
        if client in self.formats:
            return client
        return self.preferred if self.preferred in self.formats else self.formats[0]

    def url(self, format: str, path: str, model: str) -> str:
        own = self.base_url not in ("", self.provider.base_url)
        base = self.base_url if own else self.provider.bases[format]
        query = f"{'&' if '?' in path else '?'}{self.provider.query}" if self.provider.query else ""
        return f"{base}{self.provider.path_prefix.format(model=quote(model, safe=''))}{path}{query}"


DEMO_ACCOUNT = Account(DEMO, PROVIDERS[DEMO], "", "", trusted=True)


def load(project_id: int) -> tuple[Account, ...]:
    return tuple(account_of(credential) for credential in Credential.objects.filter(project=project_id).order_by("pk"))


def account_of(credential: Credential) -> Account:
    try:
        secret: str | None = credential.secret()
    except Undecipherable:
        secret = None
    provider = PROVIDERS[credential.provider]
    base_url = (credential.base_url or provider.base_url).rstrip("/")
    return Account(credential.slug, provider, base_url, secret, frozenset(credential.model_names))


accounts_of_project: ConfigCache[int, tuple[Account, ...]] = ConfigCache(load)


def operators_accounts(grant: Grant) -> tuple[Account, ...]:
    """The operator's accounts, which only projects that an operator has marked may spend from."""
    return from_environment() if grant.uses_operator_credentials else ()


@lru_cache(maxsize=1)
def from_environment() -> tuple[Account, ...]:
    """Return the accounts of the providers, then those of single models: the first route of a name wins."""
    config = operator_config.current()
    defaults = ((slug, default_upstream(slug), configured_key(slug)[1]) for slug in DEFAULT_UPSTREAMS)
    named = [operators_account(*default) for default in defaults if default[1] or default[2]]
    return (*named, *(routed_account(route) for route in (*yaml_routes(config), *environment_routes(config))))


def operators_account(slug: str, base_url: str, secret: str, models: frozenset[str] = frozenset()) -> Account:
    provider = PROVIDERS[slug]
    return Account(slug, provider, (base_url or provider.base_url).rstrip("/"), secret, models, trusted=True)


def routed_account(route: Route) -> Account:
    return operators_account(route.provider, route.base_url, route.key.secret, frozenset({route.model}))

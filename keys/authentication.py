"""Authentication by API key. It needs a query only if the key is not cached in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import structlog
from django.db import Error as DatabaseError

from keys import scopes, tokens
from keys.auth_throttle import auth_failures
from keys.models import ApiKey
from projects.config_cache import ConfigCache
from projects.db.executor import run_query
from projects.db.health import database_health
from projects.models import ANONYMOUS_SLUG

log = structlog.get_logger()


class AuthenticationFailed(Exception):
    """Raised for a key that is missing, malformed, unknown, wrong, revoked or expired.

    The response does not tell these cases apart, except for a missing key.
    """


@dataclass(frozen=True, slots=True)
class Principal:
    """An API key and its rights, as gateway processes cache them. `expires_at` is Unix time in seconds."""

    key: ApiKey
    key_id: int
    public_id: str
    project_id: int
    project_slug: str
    timezone: ZoneInfo
    scopes: frozenset[str]
    models: frozenset[str]
    expires_at: float
    uses_operator_credentials: bool
    accepts_provider_keys: bool
    caches_responses: bool
    cache_ttl_s: int
    allowed_origins: frozenset[str]

    @classmethod
    def from_key(cls, key: ApiKey) -> "Principal":
        return cls(
            key=key,
            key_id=key.pk,
            public_id=key.public_id,
            project_id=key.project_id,
            project_slug=key.project.slug,
            timezone=key.project.tzinfo,
            scopes=frozenset(key.scopes),
            models=frozenset(key.allowed_models),
            expires_at=key.expires_at.timestamp() if key.expires_at else float("inf"),
            uses_operator_credentials=key.project.uses_operator_credentials,
            accepts_provider_keys=key.project.accepts_provider_keys,
            caches_responses=key.project.caches_responses,
            cache_ttl_s=key.project.cache_ttl_s,
            allowed_origins=frozenset(key.project.allowed_origins),
        )

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= time.time()

    def allows(self, operation: str) -> bool:
        return scopes.allows(self.scopes, operation)

    def allows_model(self, model: str) -> bool:
        return not self.models or model in self.models


def load_principal(public_id: str) -> Principal:
    try:
        key = ApiKey.objects.select_related("project").get(public_id=public_id, revoked_at=None)
    except ApiKey.DoesNotExist:
        raise LookupError(public_id) from None
    return Principal.from_key(key)


principals: ConfigCache[str, Principal] = ConfigCache(load_principal)


def load_anonymous_principal(project_slug: str) -> Principal:
    """Load the principal of callers without a key: the first key of the anonymous project."""
    key = ApiKey.objects.select_related("project").filter(project__slug=project_slug).order_by("pk").first()
    if key is None or key.revoked_at is not None:
        raise LookupError(project_slug)
    return Principal.from_key(key)


anonymous_principals: ConfigCache[str, Principal] = ConfigCache(load_anonymous_principal)


async def authenticate(text: str, client_ip: Callable[[], str]) -> Principal:
    """Return the principal of a key.

    Raises AuthenticationFailed if the key is not valid, and TooManyFailures if its client has sent too many
    invalid keys. If the database fails, its error is raised unchanged, so that an outage does not look like
    an invalid key.
    """
    token = tokens.parse(text)
    principal = await lookup(token, client_ip) if token else None
    if token is None or principal is None or not principal.key.verify(token) or principal.has_expired:
        auth_failures.record_failure(client_ip())
        raise AuthenticationFailed
    if not principal.key.has_current_pepper and not database_health.is_down:
        await rehash(principal.key, token)
    return principal


async def rehash(key: ApiKey, token: tokens.Token) -> None:
    """Store the digest of a key with the current pepper. If that fails, a later request tries it again."""
    try:
        await run_query(key.rehash, token)
    except DatabaseError as error:
        log.warning(
            "key_rehash_failed",
            message="The digest of an API key could not be stored with the current pepper.",
            key=key.public_id,
            exc_info=error,
        )


async def authenticate_anonymous() -> Principal:
    """Return the principal of callers without a key.

    Raises AuthenticationFailed if the key of the anonymous project is not active.
    """
    try:
        principal = await anonymous_principals.get(ANONYMOUS_SLUG)
    except LookupError:
        raise AuthenticationFailed from None
    if principal.has_expired:
        raise AuthenticationFailed
    return principal


async def lookup(token: tokens.Token, client_ip: Callable[[], str]) -> Principal | None:
    """Return the principal of a key, or None if there is none. Raises TooManyFailures.

    The throttle is checked only before a query. A query is needed only if the key is not cached, and no stale
    principal verifies the token.
    """
    if token.public_id not in principals:
        stale_principal = principals.get_stale(token.public_id)
        if stale_principal is None or not stale_principal.key.verify(token):
            auth_failures.check_lookup(client_ip())
    try:
        return await principals.get(token.public_id)
    except LookupError:
        return None


async def is_still_valid(principal: Principal) -> bool:
    """Return whether a key that was valid at the start of a request is still valid.

    While the database is down, the last known state of the key decides.
    """
    try:
        current = await principals.get(principal.public_id)
    except LookupError:
        return False
    except DatabaseError:
        current = principal
    return not current.has_expired

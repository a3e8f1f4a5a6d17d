"""From the text of a key to what it grants, without a query on the warm path."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.db import Error as DatabaseError

from keys import scopes, tokens
from keys.models import ApiKey
from keys.throttle import strangers
from projects.configcache import ConfigCache


class NotAuthenticated(Exception):
    """The key is missing, malformed, unknown, wrong, revoked or expired; the answer is the same for all but a missing one."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a key allows, as gateway processes remember it. Times are seconds since the epoch."""

    key: ApiKey
    key_id: int
    public_id: str
    project_id: int
    project_slug: str
    zone: ZoneInfo
    scopes: frozenset[str]
    models: frozenset[str]
    expires_at: float
    uses_operator_credentials: bool

    @classmethod
    def of(cls, key: ApiKey) -> "Grant":
        return cls(
            key=key,
            key_id=key.pk,
            public_id=key.public_id,
            project_id=key.project_id,
            project_slug=key.project.slug,
            zone=key.project.zone,
            scopes=frozenset(key.scopes),
            models=frozenset(key.allowed_models),
            expires_at=key.expires_at.timestamp() if key.expires_at else float("inf"),
            uses_operator_credentials=key.project.uses_operator_credentials,
        )

    @property
    def has_expired(self) -> bool:
        return self.expires_at <= time.time()

    def allows(self, operation: str) -> bool:
        return scopes.allows(self.scopes, operation)

    def allows_model(self, model: str) -> bool:
        return not self.models or model in self.models


def load(public_id: str) -> Grant:
    try:
        key = ApiKey.objects.select_related("project").get(public_id=public_id, revoked_at=None)
    except ApiKey.DoesNotExist:
        raise LookupError(public_id) from None
    return Grant.of(key)


grants: ConfigCache[str, Grant] = ConfigCache(load)


async def authenticate(text: str, address: Callable[[], str]) -> Grant:
    """Raises NotAuthenticated, or TooManyFailures where `address`, from which the key came, has sent too many that were not valid.
    A database that does not answer is its own error, never a wrong key."""
    token = tokens.parse(text)
    grant = await find(token, address) if token else None
    if token is None or grant is None or not grant.key.proves(token) or grant.has_expired:
        strangers.count(address())
        raise NotAuthenticated
    return grant


async def find(token: tokens.Token, address: Callable[[], str]) -> Grant | None:
    """Only a key that is not known here, nor was lately, can be denied its query."""
    if not grants.holds(token.public_id):
        known = grants.recall(token.public_id)
        if known is None or not known.key.proves(token):
            strangers.check_lookup(address())
    try:
        return await grants.get(token.public_id)
    except LookupError:
        return None


async def still_holds(grant: Grant) -> bool:
    """Whether a key that was good when its request came is so now; with the database away, as far as is remembered."""
    try:
        current = await grants.get(grant.public_id)
    except LookupError:
        return False
    except DatabaseError:
        current = grant
    return not current.has_expired

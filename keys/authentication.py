"""From the text of a key to what it grants, without a query on the warm path."""

import time
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from django.conf import settings

from keys import scopes, tokens
from keys.models import ApiKey
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
    rpm_limit: int | None
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
            rpm_limit=key.rpm_limit or settings.ENV.ai_gateway_rate_limit_rpm,
            uses_operator_credentials=key.project.uses_operator_credentials,
        )

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


async def authenticate(text: str) -> Grant:
    """Raises NotAuthenticated; a database that does not answer is its own error, never a wrong key."""
    token = tokens.parse(text)
    if token is None:
        raise NotAuthenticated
    try:
        grant = await grants.get(token.public_id)
    except LookupError:
        raise NotAuthenticated from None
    if not grant.key.proves(token) or grant.expires_at <= time.time():
        raise NotAuthenticated
    return grant

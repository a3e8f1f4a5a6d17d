"""Callers of the management API: a signed-in user, a personal access token, or an API key."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from django.core.exceptions import PermissionDenied

from keys import scopes
from keys.models import AccessToken, ApiKey
from projects.access import ProjectAccess, access_of_key, access_of_operator, access_of_user
from projects.models import Project, ProjectQuerySet, User


class Caller(Protocol):
    """The rights of a caller.

    `user` is the person behind the request, if there is one. `throttle_id` identifies the caller for the
    throttle.
    """

    @property
    def user(self) -> User | None: ...

    @property
    def throttle_id(self) -> str: ...

    @property
    def label(self) -> str:
        """Return the e-mail address or the masked key, for audit entries."""

    @property
    def kind(self) -> str:
        """Return the means of authentication: session, token or key."""

    def allows(self, scope: str) -> bool:
        """Return whether the caller has a scope."""

    def access(self, slug: str) -> ProjectAccess:
        """Return the access to a project. Raises Http404 if the caller may not know that it exists."""

    def projects(self) -> ProjectQuerySet:
        """Return the projects to which the caller has access."""

    def check_grant(self, wanted: Collection[str]) -> None:
        """Raise PermissionDenied if the caller may not grant these scopes to a key or token."""

    def check_limits(self, models: Collection[str], expires_at: dt.datetime | None) -> None:
        """Raise PermissionDenied if the caller may not create a key with these models and this expiry."""

    def check_lifetime(self, expires_at: dt.datetime | None) -> None:
        """Raise PermissionDenied if the caller may not create a token with this expiry."""


@dataclass(frozen=True, slots=True)
class SessionCaller:
    """A user who is signed in with the browser. Only the user's role in a project limits what is allowed."""

    user: User
    kind = "session"

    @property
    def label(self) -> str:
        return self.user.email

    @property
    def throttle_id(self) -> str:
        return f"user-{self.user.pk}"

    def allows(self, scope: str) -> bool:
        return True

    def access(self, slug: str) -> ProjectAccess:
        return access_of_user(self.user, slug)

    def projects(self) -> ProjectQuerySet:
        return Project.objects.for_user(self.user)

    def check_grant(self, wanted: Collection[str]) -> None:
        """Accept all scopes: forms offer only the scopes that the user's role allows."""

    def check_limits(self, models: Collection[str], expires_at: dt.datetime | None) -> None:
        """Accept all limits."""

    def check_lifetime(self, expires_at: dt.datetime | None) -> None:
        """Accept all lifetimes."""


@dataclass(frozen=True, slots=True)
class TokenCaller:
    """A user's personal access token. An operator's token has access to all projects."""

    token: AccessToken
    kind = "token"

    @property
    def label(self) -> str:
        return self.user.email

    @property
    def user(self) -> User:
        return self.token.user

    @property
    def throttle_id(self) -> str:
        return f"token-{self.token.pk}"

    def allows(self, scope: str) -> bool:
        return scopes.allows(self.token.scopes, scope)

    def access(self, slug: str) -> ProjectAccess:
        return access_of_operator(slug) if self.user.is_staff else access_of_user(self.user, slug)

    def projects(self) -> ProjectQuerySet:
        return Project.objects.all() if self.user.is_staff else Project.objects.for_user(self.user)

    def check_grant(self, wanted: Collection[str]) -> None:
        """Raise PermissionDenied for a scope of management that the token does not have."""
        check_covered(self, scopes.management_part(wanted))

    def check_limits(self, models: Collection[str], expires_at: dt.datetime | None) -> None:
        """Accept all limits: a token is not restricted to models, and may create keys that outlast it."""

    def check_lifetime(self, expires_at: dt.datetime | None) -> None:
        """Raise PermissionDenied if the new token would expire after this one."""
        check_expiry(self.token.expires_at, expires_at)


@dataclass(frozen=True, slots=True)
class KeyCaller:
    """An API key, which has access to its own project only."""

    key: ApiKey
    kind = "key"
    user = None

    @property
    def label(self) -> str:
        return self.key.masked

    @property
    def throttle_id(self) -> str:
        return f"key-{self.key.pk}"

    def allows(self, scope: str) -> bool:
        return scopes.allows(self.key.scopes, scope)

    def access(self, slug: str) -> ProjectAccess:
        return access_of_key(self.key.project, slug)

    def projects(self) -> ProjectQuerySet:
        return Project.objects.filter(pk=self.key.project_id)

    def check_grant(self, wanted: Collection[str]) -> None:
        """Raise PermissionDenied for a scope that the key does not have."""
        check_covered(self, wanted)

    def check_limits(self, models: Collection[str], expires_at: dt.datetime | None) -> None:
        """Raise PermissionDenied for models that the key may not call, and for an expiry after its own."""
        allowed = set(self.key.allowed_models)
        if allowed and not (models and allowed.issuperset(models)):
            raise PermissionDenied(f"You can grant only these models: {', '.join(sorted(allowed))}.")
        self.check_lifetime(expires_at)

    def check_lifetime(self, expires_at: dt.datetime | None) -> None:
        """Raise PermissionDenied if the new key would expire after this one."""
        check_expiry(self.key.expires_at, expires_at)


def check_covered(caller: Caller, wanted: Collection[str]) -> None:
    if missing := [scope for scope in wanted if not caller.allows(scope)]:
        raise PermissionDenied(f"You cannot grant scopes that you do not have: {', '.join(sorted(missing))}.")


def check_expiry(own: dt.datetime | None, wanted: dt.datetime | None) -> None:
    if own is not None and (wanted is None or wanted > own):
        raise PermissionDenied(
            f"Choose an expiry that is not after that of your own token or key, {own:%Y-%m-%d}."
        )

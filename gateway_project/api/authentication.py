"""Authentication of the REST API: session cookie, personal access token, or API key."""

from collections.abc import Mapping
from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from gateway_project.api.callers import Caller, KeyCaller, SessionCaller, TokenCaller
from gateway_project.dashboard.audit import address_of
from keys import tokens
from keys.auth_throttle import auth_failures
from keys.authentication import load_principal
from keys.models import AccessToken
from projects.models import User

AuthResult = tuple[User | AnonymousUser, Caller]


class BearerAuthentication(BaseAuthentication):
    """Authenticates by `Authorization: Bearer ...` or `x-api-key`: an access token or an API key.

    The limit on requests without a valid key (`keys/auth_throttle.py`) applies here too.
    """

    def authenticate(self, request: Request) -> AuthResult | None:
        """Return the user and the caller, or None without a token. Raises AuthenticationFailed."""
        text = bearer_token(request)
        if not text:
            return None
        address = address_of(request)
        auth_failures.check_lookup(address)
        caller = find_caller(text)
        if caller is None:
            auth_failures.record_failure(address)
            raise AuthenticationFailed("The access token or API key is not valid.")
        return caller.user or AnonymousUser(), caller

    def authenticate_header(self, request: Request) -> str:
        """Return the header that makes DRF respond with 401 and not with 403."""
        return "Bearer"


class PageAuthentication(SessionAuthentication):
    """Authenticates pages of the same origin by the session cookie, with a CSRF token."""

    def authenticate(self, request: Request) -> AuthResult | None:
        """Return the user and the caller, or None if nobody is signed in. Raises PermissionDenied."""
        result: tuple[User, Any] | None = super().authenticate(request)
        return (result[0], SessionCaller(result[0])) if result else None


def bearer_token(request: Request) -> str:
    """Return the access token or API key of a request; empty if there is none."""
    headers: Mapping[str, str] = request.headers
    scheme, _, rest = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    return headers.get("x-api-key", "").strip()


def find_caller(text: str) -> Caller | None:
    """Return the caller with this access token or API key, or None if it is not valid."""
    if text.startswith(tokens.ACCESS_TOKEN_PREFIX):
        token = AccessToken.objects.find(text)
        return TokenCaller(token) if token else None
    return find_key(text)


def find_key(text: str) -> KeyCaller | None:
    parsed = tokens.parse(text)
    if parsed is None:
        return None
    try:
        principal = load_principal(parsed.public_id)
    except LookupError:
        return None
    is_valid = principal.key.verify(parsed) and not principal.has_expired
    return KeyCaller(principal.key) if is_valid else None

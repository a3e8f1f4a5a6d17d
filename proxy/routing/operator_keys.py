"""Decide which of the operator's provider keys a configured URL receives.

A key gives access to a provider account, so the owner of any host that receives the key can use the account.
A URL therefore receives the key only in three cases: its host is the provider's, its host is that of the
operator's default upstream for the provider, or the operator has set send_operator_key for it.
"""

from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from yarl import URL

from proxy.providers.catalog import ANTHROPIC, GEMINI, OPENAI, PROVIDERS


class Reason(StrEnum):
    """The reason for sending a key to a URL, or for not sending it."""

    NOT_CONFIGURED = "no key is configured"
    PROVIDER_HOST = "the provider's own host"
    DEFAULT_UPSTREAM = "the default upstream's host"
    CONFIGURED = "send_operator_key is set"
    URL_CREDENTIALS = "the URL has its own user name"
    OTHER_HOST = "another host; set send_operator_key to send the key"


DEFAULT_UPSTREAMS = (OPENAI, ANTHROPIC, GEMINI)
"""Providers whose key and base URL can be set in the environment."""
SENT = (Reason.PROVIDER_HOST, Reason.DEFAULT_UPSTREAM, Reason.CONFIGURED)


@dataclass(frozen=True, slots=True)
class OperatorKey:
    """The key for one URL, and the variable that contains it. Both are empty if no key is sent.

    `is_permitted` is true if the URL receives keys of this provider: the operator's, or a caller's own.
    """

    reason: Reason
    is_permitted: bool
    variable: str = ""
    secret: str = ""


def default_upstream(provider: str) -> str:
    """Return the base URL that the environment sets for a provider, or an empty string."""
    env = settings.ENV
    configured = {
        OPENAI: env.ai_gateway_upstream or env.openai_base_url,
        ANTHROPIC: env.anthropic_base_url,
        GEMINI: env.gemini_base_url,
    }
    return configured.get(provider, "")


def configured_key(provider: str) -> tuple[str, str]:
    """Return the variable and the value of the operator's key for a provider."""
    env = settings.ENV
    keys = {
        OPENAI: ("OPENAI_API_KEY", env.openai_api_key),
        ANTHROPIC: ("ANTHROPIC_API_KEY", env.anthropic_api_key),
        GEMINI: ("GEMINI_API_KEY", env.gemini_api_key),
    }
    return keys[provider]


def key_for(provider: str, base_url: str, *, requested: bool) -> OperatorKey:
    """Return the key that a route's URL receives.

    `requested` is the setting send_operator_key of the route.
    """
    # Compatible servers expect the key in OpenAI's header, so the operator can only mean the OpenAI key.
    owner = provider if provider in (ANTHROPIC, GEMINI) else OPENAI
    variable, secret = configured_key(owner)
    reason = reason_for(owner, base_url, requested=requested)
    is_permitted = reason in SENT
    if not secret:
        return OperatorKey(Reason.NOT_CONFIGURED, is_permitted)
    return OperatorKey(reason, is_permitted, *((variable, secret) if is_permitted else ()))


def reason_for(owner: str, base_url: str, *, requested: bool) -> Reason:
    if URL(base_url).user is not None or URL(base_url).password is not None:
        return Reason.URL_CREDENTIALS
    if is_providers_own(owner, base_url):
        return Reason.PROVIDER_HOST
    default = default_upstream(owner)
    if default and origin_of(default) == origin_of(base_url):
        return Reason.DEFAULT_UPSTREAM
    return Reason.CONFIGURED if requested else Reason.OTHER_HOST


def is_providers_own(provider: str, base_url: str) -> bool:
    return origin_of(base_url) in map(origin_of, PROVIDERS[provider].base_urls.values())


def origin_of(base_url: str) -> str:
    """Return scheme, host and port of a URL, without user name and password.

    Origins are compared exactly: http differs from https, and `host.` from `host`. The URL is parsed by yarl,
    because the HTTP client that connects to it uses yarl. Raises ValueError if the text is not an http or
    https URL with a host.
    """
    url = URL(base_url)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("it is not an http or https address")
    return str(url.origin())

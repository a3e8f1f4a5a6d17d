"""Decide which of the operator's provider keys a configured URL receives.

A key belongs to one provider account. Sending it to another host would give the account to the owner of that
host. A URL therefore receives the key only if its host is the provider's own or that of the operator's
default upstream for the provider, or if the operator has set send_operator_key for it.
"""

from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from yarl import URL

from proxy.providers.catalog import ANTHROPIC, GEMINI, OPENAI, PROVIDERS


class Reason(StrEnum):
    """Reason for sending a key to a URL, or for not sending it."""

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
    """The key for one URL, and the variable that sets it. Both are empty if no key is sent."""

    reason: Reason
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
    """Return the key that a route's URL receives. `requested` is the route's send_operator_key."""
    # Compatible servers read the key from OpenAI's header, so only the OpenAI key can be intended for them.
    owner = provider if provider in (ANTHROPIC, GEMINI) else OPENAI
    variable, secret = configured_key(owner)
    reason = reason_for(owner, base_url, requested=requested) if secret else Reason.NOT_CONFIGURED
    return OperatorKey(reason, variable, secret) if reason in SENT else OperatorKey(reason)


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

    Origins are compared exactly: http is not https, and `host.` is not `host`. yarl parses the URL as the
    HTTP client does that connects to it. Raises ValueError if the text is not an http or https URL with a
    host.
    """
    url = URL(base_url)
    if url.scheme not in ("http", "https") or not url.raw_host:
        raise ValueError("it is not an http or https address")
    return str(url.origin())

"""Errors about API keys, scopes, sites and provider keys of callers."""

import math

from billing.models import Outcome
from keys.auth_throttle import TooManyFailures
from proxy.errors.gateway_error import GatewayError, gateway_error, rate_limited, unauthenticated


def missing_key() -> GatewayError:
    return unauthenticated("No API key was given. Send it as “Authorization: Bearer sk-gw_...”.")


def invalid_key() -> GatewayError:
    return unauthenticated("The API key is not valid, has expired or was revoked.")


def too_many_failures(denial: TooManyFailures) -> GatewayError:
    """Return the error for a client network with too many failed authentications.

    The error is the same for every key, so that it does not show whether a key is valid.
    """
    text = "Too many requests without a valid API key came from this address. Try again later."
    return rate_limited(text, {"retry-after": str(math.ceil(denial.retry_after))})


def missing_scope(scope: str) -> GatewayError:
    text = f"This API key does not have the scope {scope}."
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "insufficient_permissions", text)


def foreign_site() -> GatewayError:
    text = (
        "A web page of another site sent this request without an API key of the gateway. Send a key, or let "
        "the operator set DASHBOARD_URL to the address of the site."
    )
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "origin_not_allowed", text)


def foreign_host(host: str) -> GatewayError:
    text = (
        f"This request has no API key of the gateway, and {host[:100]!r} is not a name of the gateway. "
        "Send a key, or ask the operator to set GATEWAY_PUBLIC_URL to the URL with this host."
    )
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "host_not_allowed", text)


def provider_key_not_accepted() -> GatewayError:
    text = (
        "This project does not accept provider keys of callers, so the request was not sent. Remove the "
        "header x-gateway-provider-key, or let an admin accept such keys in the project's settings."
    )
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "provider_key_not_accepted", text)


def provider_key_malformed() -> GatewayError:
    text = (
        "The provider key must be the provider's own API key: at most 2000 printable ASCII characters "
        "without spaces, and not a key of this gateway."
    )
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "provider_key_malformed", text)


def provider_key_unusable(provider: str) -> GatewayError:
    text = (
        f"The model is served by {provider}, which has no URL of its own to which a caller's key could be "
        "sent. Remove the provider key, or choose a model of another provider."
    )
    return gateway_error(
        400, Outcome.INVALID_REQUEST, "invalid_request", "provider_key_unusable", text, "model"
    )


def model_not_allowed(model: str) -> GatewayError:
    text = f"This API key may not use the model {model}."
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "model_not_allowed", text, "model")


def may_use_other_models(field: str) -> GatewayError:
    text = (
        f"This API key may use only some models, and the field {field} may select others. Remove the field."
    )
    return gateway_error(403, Outcome.FORBIDDEN, "auth", "model_not_allowed", text, field)


def unknown_key() -> GatewayError:
    text = "This project has no API key with that id."
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "unknown_key", text)

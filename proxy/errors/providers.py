"""Errors about credentials, and about providers that fail."""

import math

from billing.models import Outcome
from proxy.errors.gateway_error import GatewayError, gateway_error, unavailable
from proxy.formats.neutral import ApiError


def credential_unreadable() -> GatewayError:
    text = "The provider's credential cannot be decrypted. The operator must restore its encryption key."
    return unavailable("credential_unavailable", text)


def upstream_unreachable(provider: str, reason: str) -> GatewayError:
    return gateway_error(
        502,
        Outcome.UPSTREAM_ERROR,
        "network",
        "upstream_unreachable",
        f"{provider} could not be reached: {reason}.",
    )


def invalid_upstream_response(provider: str, reason: str) -> GatewayError:
    return gateway_error(
        502,
        Outcome.UPSTREAM_ERROR,
        "server_error",
        "bad_upstream_answer",
        f"{provider} sent a response that cannot be read: {reason}",
    )


def upstream_error(error: ApiError) -> GatewayError:
    """Return the error that a provider has reported."""
    return GatewayError(Outcome.UPSTREAM_ERROR, error)


def upstream_timeout(provider: str, reason: str) -> GatewayError:
    text = f"{provider} did not respond in time: {reason}."
    return gateway_error(504, Outcome.UPSTREAM_ERROR, "timeout", "upstream_timeout", text)


def circuit_open(provider: str, retry_after_s: float) -> GatewayError:
    """Return the error for a request whose targets all failed repeatedly, so that none is called now."""
    wait = max(math.ceil(retry_after_s), 1)
    text = f"{provider} has failed repeatedly, so it is not called for some seconds. Try again in {wait} s."
    error = ApiError(kind="server_error", code="upstream_unavailable", message=text, status=503)
    return GatewayError(Outcome.UPSTREAM_ERROR, error, {"retry-after": str(wait)})

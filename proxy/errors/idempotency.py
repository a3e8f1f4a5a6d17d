"""Errors about the header `Idempotency-Key`."""

from billing.models import Outcome
from proxy.errors.gateway_error import GatewayError, gateway_error, unavailable


def idempotency_key_malformed() -> GatewayError:
    text = "An Idempotency-Key has 1 to 255 printable ASCII characters."
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "idempotency_key_malformed", text)


def idempotency_key_is_secret() -> GatewayError:
    """Return the error for an Idempotency-Key that is an API key.

    Idempotency keys are stored in plain text.
    """
    text = "The Idempotency-Key contains an API key. Send a random text that is not secret."
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "idempotency_key_malformed", text)


def idempotency_key_in_use() -> GatewayError:
    text = "The first request with this Idempotency-Key has not ended yet. Try again in a moment."
    return gateway_error(
        409,
        Outcome.INVALID_REQUEST,
        "invalid_request",
        "idempotency_key_in_use",
        text,
        headers={"retry-after": "1"},
    )


def idempotency_key_reused() -> GatewayError:
    text = "This Idempotency-Key was used for another request. Send a new key with a new request."
    return gateway_error(422, Outcome.INVALID_REQUEST, "invalid_request", "idempotency_key_reused", text)


def stored_response_unreadable() -> GatewayError:
    """Return the error for a stored response that cannot be decrypted.

    The gateway does not run the request again, because the client would pay twice.
    """
    text = (
        "The stored response to this Idempotency-Key cannot be decrypted. "
        "The operator must restore its encryption key."
    )
    return unavailable("stored_answer_unavailable", text)

"""Errors about the state of the gateway, and the error for each exception."""

import structlog
from django.db import Error as DatabaseError

from billing.ledger import BudgetExceeded, LedgerUnavailable, RateLimitExceeded
from billing.ledger.interface import DATABASE
from billing.models import Outcome
from keys.auth_throttle import TooManyFailures
from projects.outbound import BlockedURL
from proxy.errors.callers import too_many_failures
from proxy.errors.gateway_error import GatewayError, gateway_error, unavailable
from proxy.errors.limits import budget_exceeded, rate_limit_exceeded
from proxy.errors.providers import invalid_upstream_response, upstream_timeout, upstream_unreachable
from proxy.errors.requests import invalid_request, unreadable_body
from proxy.formats.neutral import InvalidRequest, InvalidUpstreamResponse
from proxy.http.content_coding import BodyTooLarge, CorruptBody, UnsupportedCoding
from proxy.http.disconnect import ClientDisconnected, RequestTimeout
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout

log = structlog.get_logger()


def service_unavailable(error: Exception) -> GatewayError:
    """Return the error for a component that is down.

    The error does not contain the text of the failure, because it may name hosts.
    """
    match error.component if isinstance(error, LedgerUnavailable) else DATABASE:
        case "redis":
            what = "The store of the gateway's budgets and limits does not answer."
        case None:
            what = "The gateway is still restoring its budgets."
        case _:
            what = "The gateway's database does not answer."
    text = f"{what} Try again in a moment."
    return unavailable("service_unavailable", text, {"retry-after": "2"})


def client_closed() -> GatewayError:
    """Return the error for a client disconnect. It is stored in the usage record, but not sent.

    Its status is 499, which nginx uses for the same purpose.
    """
    return gateway_error(
        499, Outcome.CLIENT_CLOSED, "network", "client_closed", "The client closed the connection."
    )


def shutting_down() -> GatewayError:
    text = "The gateway was stopped before the response was complete. Try again in a moment."
    return unavailable("service_unavailable", text, {"retry-after": "2"})


def overloaded() -> GatewayError:
    text = "The gateway has too many requests in progress. Try again in a moment."
    return gateway_error(503, Outcome.SHED, "server_error", "overloaded", text, headers={"retry-after": "1"})


def internal_error() -> GatewayError:
    text = "The gateway failed while it handled this request. Try again."
    return gateway_error(500, Outcome.UNAVAILABLE, "server_error", "internal_error", text)


def from_exception(error: Exception, provider: str = "The provider") -> GatewayError:
    """Return the error to send to the client for an exception.

    An unexpected exception is logged, and the client does not get its text.
    """
    match error:
        case GatewayError():
            return error
        case TooManyFailures():
            return too_many_failures(error)
        case InvalidRequest():
            return invalid_request(error)
        case BodyTooLarge() | UnsupportedCoding() | CorruptBody():
            return unreadable_body(error)
        case ClientDisconnected():
            return client_closed()
        case BudgetExceeded():
            return budget_exceeded(error)
        case RateLimitExceeded():
            return rate_limit_exceeded(error)
        case UpstreamConnectionError() | BlockedURL():
            return upstream_unreachable(provider, str(error))
        case InvalidUpstreamResponse():
            return invalid_upstream_response(provider, str(error))
        case UpstreamTimeout() | RequestTimeout():
            return upstream_timeout(provider, str(error))
        case LedgerUnavailable() | DatabaseError():
            log.error(
                "request_not_admitted",
                message="A request cannot be admitted, because the database or Redis is down.",
                reason=str(error),
            )
            return service_unavailable(error)
        case _:
            log.error(
                "request_failed_unexpectedly", message="A request failed in the gateway.", exc_info=error
            )
            return internal_error()

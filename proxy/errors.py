"""Every way in which the gateway itself refuses or fails, with the status, words and outcome that belong to it."""

from datetime import UTC, datetime

import structlog
from django.conf import settings
from django.db import Error as DatabaseError

from billing.ledger import BudgetExceeded, LedgerUnavailable, RateExceeded
from billing.models import Outcome
from billing.money import decimal_usd
from proxy.formats.neutral import BadRequest, Failure
from proxy.lean import BodyTooLarge, ClientGone
from proxy.upstream import BadUpstreamAddress, UpstreamRefused, UpstreamTimeout

log = structlog.get_logger()


class GatewayError(Exception):
    """Rendered in the caller's dialect; `outcome` is what the record or counter says, `headers` go out with it."""

    def __init__(self, status: int, outcome: Outcome, failure: Failure, headers: dict[str, str] | None = None) -> None:
        super().__init__(failure.message)
        self.status, self.outcome, self.failure, self.headers = status, outcome, failure, headers or {}


def no_key() -> GatewayError:
    text = "No API key was given. Send it as “Authorization: Bearer sk-gw_...”."
    return GatewayError(401, Outcome.AUTH, Failure("auth", "invalid_api_key", text), {"www-authenticate": "Bearer"})


def wrong_key() -> GatewayError:
    text = "The API key is not valid, has expired or was revoked."
    return GatewayError(401, Outcome.AUTH, Failure("auth", "invalid_api_key", text), {"www-authenticate": "Bearer"})


def out_of_scope(scope: str) -> GatewayError:
    text = f"This API key does not have the scope {scope}."
    return GatewayError(403, Outcome.SCOPE, Failure("auth", "insufficient_permissions", text))


def model_not_allowed(model: str) -> GatewayError:
    text = f"This API key may not use the model {model}."
    return GatewayError(403, Outcome.SCOPE, Failure("auth", "model_not_allowed", text, "model"))


def unknown_model(model: str, hint: str = "") -> GatewayError:
    text = f"The model {model} does not exist or this project has no access to it.{hint}"
    return GatewayError(404, Outcome.INVALID, Failure("unknown_model", "model_not_found", text, "model"))


def no_such_route(path: str) -> GatewayError:
    return GatewayError(404, Outcome.INVALID, Failure("invalid_request", "unknown_url", f"There is nothing at {path[:200]}."))


def wrong_method(method: str, allowed: str) -> GatewayError:
    failure = Failure("invalid_request", "method_not_allowed", f"{method[:20]} is not allowed here; use {allowed}.")
    return GatewayError(405, Outcome.INVALID, failure, {"allow": allowed})


def bad_request(error: BadRequest) -> GatewayError:
    return GatewayError(400, Outcome.INVALID, Failure("invalid_request", "invalid_request_error", str(error), error.param))


def too_large(limit: int) -> GatewayError:
    text = f"The request body is larger than {limit} bytes."
    return GatewayError(413, Outcome.INVALID, Failure("invalid_request", "request_too_large", text))


def format_not_served(model: str, provider: str) -> GatewayError:
    text = f"The model {model} is served by {provider}, whose format this endpoint cannot be converted to."
    return GatewayError(400, Outcome.INVALID, Failure("invalid_request", "unsupported_model", text, "model"))


def budget_exceeded(refusal: BudgetExceeded) -> GatewayError:
    budget = refusal.budget
    period, owner = {"day": "daily", "month": "monthly"}[budget.period], "project's" if budget.covers_project else "key's"
    text = (
        f"The {owner} {period} budget of ${decimal_usd(budget.limit_nano)} has ${decimal_usd(refusal.left)} left and this request may cost "
        f"${decimal_usd(refusal.needed)}. It begins anew at {refusal.resets_at:%Y-%m-%dT%H:%M:%SZ}."
    )
    seconds = max(int((refusal.resets_at - datetime.now(UTC)).total_seconds()), 1)
    headers = {"x-should-retry": "false", "retry-after": str(seconds)}
    return GatewayError(429, Outcome.BUDGET, Failure("rate_limit", "insufficient_quota", text), headers)


def rate_exceeded(refusal: RateExceeded) -> GatewayError:
    wait = max(int(refusal.retry_after) + 1, 1)
    text = f"This API key may send {refusal.limit} requests per minute. Try again in {wait} seconds."
    headers = {"retry-after": str(wait), **rate_headers(refusal.limit, 0, refusal.retry_after)}
    return GatewayError(429, Outcome.RATE, Failure("rate_limit", "rate_limit_exceeded", text), headers)


def rate_headers(limit: int, left: int, seconds: float) -> dict[str, str]:
    return {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(left),
        "x-ratelimit-reset-requests": f"{seconds:.3f}s",
        "x-ratelimit-remaining": str(left),
        "x-ratelimit-reset-ms": str(int(seconds * 1000)),
    }


def unpriced(model: str) -> GatewayError:
    text = f"The model {model} has no known price, and this key or project has a budget. Ask the operator to set a price."
    return GatewayError(400, Outcome.BUDGET, Failure("invalid_request", "model_not_priced", text, "model"))


def unavailable() -> GatewayError:
    text = "The gateway's database does not answer. Try again in a moment."
    return GatewayError(503, Outcome.UNAVAILABLE, Failure("server_error", "service_unavailable", text), {"retry-after": "2"})


def credential_unreadable() -> GatewayError:
    text = "The provider's credential cannot be decrypted; the operator must restore its encryption key."
    return GatewayError(503, Outcome.UNAVAILABLE, Failure("server_error", "credential_unavailable", text))


def upstream_refused(provider: str, reason: str) -> GatewayError:
    return GatewayError(
        502, Outcome.UPSTREAM_ERROR, Failure("network", "upstream_unreachable", f"{provider} could not be reached: {reason}.")
    )


def upstream_timeout(provider: str) -> GatewayError:
    return GatewayError(504, Outcome.UPSTREAM_ERROR, Failure("timeout", "upstream_timeout", f"{provider} did not answer in time."))


def client_closed() -> GatewayError:
    """Nobody reads this one; the record keeps it. 499 is nginx's word for a client that left before its answer."""
    return GatewayError(499, Outcome.CLIENT_CLOSED, Failure("network", "client_closed", "The client closed the connection."))


def internal() -> GatewayError:
    return GatewayError(500, Outcome.UNAVAILABLE, Failure("server_error", "internal_error", "The gateway failed on this request."))


def of(error: Exception, provider: str = "The provider") -> GatewayError:
    """What any failure on a request's way means to its caller. Unforeseen ones are logged and say nothing of themselves."""
    match error:
        case GatewayError():
            return error
        case BadRequest():
            return bad_request(error)
        case BodyTooLarge():
            return too_large(settings.MAX_BODY_BYTES)
        case ClientGone():
            return client_closed()
        case BudgetExceeded():
            return budget_exceeded(error)
        case RateExceeded():
            return rate_exceeded(error)
        case UpstreamRefused() | BadUpstreamAddress():
            return upstream_refused(provider, str(error))
        case UpstreamTimeout():
            return upstream_timeout(provider)
        case LedgerUnavailable() | DatabaseError():
            log.error("database does not answer", reason=str(error))
            return unavailable()
        case _:
            log.error("request failed in the gateway", exc_info=error)
            return internal()

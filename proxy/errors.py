"""Every way in which the gateway itself refuses or fails, with the status, words and outcome that belong to it."""

import math
import time

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from msgspec.structs import replace
from redis import RedisError

from billing.ledger import BudgetExceeded, LedgerUnavailable, RateExceeded, Standing
from billing.ledger.redis.connection import StoreUnavailable
from billing.models import Outcome, Period
from billing.money import decimal_usd
from keys.throttle import TooManyFailures
from projects.addresses import BadAddress
from projects.redaction import redact
from proxy.formats.account_ids import ISSUED_KINDS, UPLOADED_KINDS, AccountReference
from proxy.formats.neutral import BadAnswer, BadRequest, Failure
from proxy.lean import BodyTooLarge, ClientGone
from proxy.upstream import UpstreamRefused, UpstreamTimeout

log = structlog.get_logger()


class GatewayError(Exception):
    """Rendered in the caller's dialect; `outcome` is what the record or counter says, `headers` go out with it."""

    def __init__(self, outcome: Outcome, failure: Failure, headers: dict[str, str] | None = None) -> None:
        failure = without_keys(failure)
        super().__init__(failure.message)
        self.status, self.outcome, self.failure, self.headers = failure.status, outcome, failure, headers or {}


def without_keys(failure: Failure) -> Failure:
    """Return the failure without the keys that a client or provider wrote into the texts that it repeats."""
    param = failure.param and redact(failure.param)
    return replace(failure, message=redact(failure.message), code=redact(failure.code), param=param)


def failed(
    status: int, outcome: Outcome, kind: str, code: str, message: str, param: str | None = None, headers: dict[str, str] | None = None
) -> GatewayError:
    return GatewayError(outcome, Failure(kind=kind, code=code, message=message, param=param, status=status), headers)


def no_key() -> GatewayError:
    text = "No API key was given. Send it as “Authorization: Bearer sk-gw_...”."
    return failed(401, Outcome.AUTH, "auth", "invalid_api_key", text, headers={"www-authenticate": "Bearer"})


def wrong_key() -> GatewayError:
    text = "The API key is not valid, has expired or was revoked."
    return failed(401, Outcome.AUTH, "auth", "invalid_api_key", text, headers={"www-authenticate": "Bearer"})


def too_many_failures(refusal: TooManyFailures) -> GatewayError:
    """The same for every kind of key: it does not say whether one of them was good."""
    text = "Too many requests without a valid API key came from this address. Try again later."
    return failed(
        429, Outcome.RATE, "rate_limit", "rate_limit_exceeded", text, headers={"retry-after": str(math.ceil(refusal.retry_after))}
    )


def out_of_scope(scope: str) -> GatewayError:
    text = f"This API key does not have the scope {scope}."
    return failed(403, Outcome.SCOPE, "auth", "insufficient_permissions", text)


def model_not_allowed(model: str) -> GatewayError:
    text = f"This API key may not use the model {model}."
    return failed(403, Outcome.SCOPE, "auth", "model_not_allowed", text, "model")


def other_models(field: str) -> GatewayError:
    text = f"This API key may use certain models only, and the field {field} may let others answer."
    return failed(403, Outcome.SCOPE, "auth", "model_not_allowed", text, field)


def unknown_model(model: str, hint: str = "") -> GatewayError:
    text = f"The model {model} does not exist or this project has no access to it.{hint}"
    return failed(404, Outcome.INVALID, "unknown_model", "model_not_found", text, "model")


LONGEST_SHOWN_ID = 100


def not_issued(reference: AccountReference) -> GatewayError:
    """The same whether another project has the id or nobody."""
    noun, shown = ISSUED_KINDS[reference.kind], reference.id[:LONGEST_SHOWN_ID]
    text = (
        f"{noun} with id '{shown}' not found. In the operator's account at this provider, a project can only use "
        "ids that it received from the gateway. For ids from elsewhere, use a provider credential of the "
        "project's own."
    )
    code = "previous_response_not_found" if reference.kind == "response" else f"{reference.kind}_not_found"
    return failed(404, Outcome.INVALID, "invalid_request", code, text, reference.param)


def not_shared(reference: AccountReference) -> GatewayError:
    """For objects of which the gateway cannot know to whom they belong."""
    noun, shown = UPLOADED_KINDS[reference.kind], reference.id[:LONGEST_SHOWN_ID]
    code = f"{reference.kind}_not_found"
    text = (
        f"The field {reference.param} names a {noun} ('{shown}') in the operator's account at this provider, "
        f"which several projects share. The gateway does not see to which project a {noun} belongs, so it does "
        "not pass the id on. Send the content itself, or use a provider credential of the project's own."
    )
    return failed(404, Outcome.INVALID, "invalid_request", code, text, reference.param)


def no_such_route(path: str) -> GatewayError:
    return failed(404, Outcome.INVALID, "invalid_request", "unknown_url", f"There is nothing at {path[:200]}.")


def no_such_key() -> GatewayError:
    text = "This project has no API key of that id."
    return failed(404, Outcome.INVALID, "invalid_request", "unknown_key", text)


def wrong_method(method: str, allowed: str) -> GatewayError:
    text = f"{method[:20]} is not allowed here; use {allowed}."
    return failed(405, Outcome.INVALID, "invalid_request", "method_not_allowed", text, headers={"allow": allowed})


def bad_request(error: BadRequest) -> GatewayError:
    return failed(400, Outcome.INVALID, "invalid_request", "invalid_request_error", str(error), error.param)


def too_large(limit: int) -> GatewayError:
    text = f"The request body is larger than {limit} bytes."
    return failed(413, Outcome.INVALID, "invalid_request", "request_too_large", text)


def format_not_served(model: str, provider: str) -> GatewayError:
    text = f"The model {model} is served by {provider}, whose format this endpoint cannot be converted to."
    return failed(400, Outcome.INVALID, "invalid_request", "unsupported_model", text, "model")


def budget_exceeded(refusal: BudgetExceeded) -> GatewayError:
    budget = refusal.budget
    period, owner = Period(budget.period).label, "project's" if budget.covers_project else "key's"
    text = (
        f"The {owner} {period} budget of ${decimal_usd(budget.limit_nano)} has ${decimal_usd(refusal.left)} left and this request may cost "
        f"${decimal_usd(refusal.needed)}. "
    )
    headers = {"x-should-retry": "false"}
    if refusal.resets_at is None:
        text += "It does not begin anew."
    else:
        text += f"It begins anew at {refusal.resets_at:%Y-%m-%dT%H:%M:%SZ}."
        headers["retry-after"] = str(max(int(refusal.resets_at.timestamp() - time.time()), 1))
    return failed(429, Outcome.BUDGET, "rate_limit", "insufficient_quota", text, headers=headers)


def used_up() -> GatewayError:
    text = "The answer was cut: it has cost what the budget had left for it."
    return failed(429, Outcome.BUDGET, "rate_limit", "insufficient_quota", text)


LIMITED = {
    "requests": "send {} requests per minute",
    "tokens": "use {} tokens per minute",
    "concurrent": "have {} requests under way at once",
}


def rate_exceeded(refusal: RateExceeded) -> GatewayError:
    owner = "project" if refusal.terms.covers_project else "API key"
    text = f"This {owner} may {LIMITED[refusal.kind].format(refusal.limit)}. "
    if refusal.retry_after is None:
        text += "This request alone may use more: send less, or ask for less with max_tokens."
        return failed(429, Outcome.RATE, "rate_limit", "rate_limit_exceeded", text, headers={"x-should-retry": "false"})
    wait = math.ceil(refusal.retry_after)
    headers = {"retry-after": str(wait), "retry-after-ms": str(math.ceil(refusal.retry_after * 1000))}
    return failed(429, Outcome.RATE, "rate_limit", "rate_limit_exceeded", f"{text}Try again in {wait} seconds.", headers=headers)


def rate_headers(standing: Standing) -> dict[str, str]:
    """How far the limits are used, under the names that OpenAI's clients know, and in short for the requests."""
    headers: dict[str, str] = {}
    for kind, allowance in (("requests", standing.requests), ("tokens", standing.tokens)):
        if allowance is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(allowance.left)
            headers[f"x-ratelimit-reset-{kind}"] = f"{allowance.resets_after:.3f}s"
    if standing.requests is not None:
        headers["x-ratelimit-remaining"] = str(standing.requests.left)
        headers["x-ratelimit-reset-ms"] = str(int(standing.requests.resets_after * 1000))
    return headers


def unpriced(model: str) -> GatewayError:
    text = f"The model {model} has no known price, which a key or project with a budget needs. Use another model, or a key without one."
    return failed(400, Outcome.BUDGET, "invalid_request", "model_not_priced", text, "model")


def unbounded(field: str) -> GatewayError:
    text = f"What the field {field} may cost is not known, as a key or project with a budget needs. Leave it out, or use a key without one."
    return failed(400, Outcome.BUDGET, "invalid_request", "cost_not_bounded", text, field)


def unavailable(error: Exception) -> GatewayError:
    """What is missing, by what lies behind a ledger's failure; of the rest it says nothing."""
    match error.__cause__ if isinstance(error, LedgerUnavailable) else error:
        case StoreUnavailable() | RedisError():
            what = "The store of the gateway's budgets and limits does not answer."
        case None:
            what = "The gateway's budgets are being brought up to date."
        case _:
            what = "The gateway's database does not answer."
    text = f"{what} Try again in a moment."
    return failed(503, Outcome.UNAVAILABLE, "server_error", "service_unavailable", text, headers={"retry-after": "2"})


def idempotency_key_malformed() -> GatewayError:
    text = "An Idempotency-Key has 1 to 255 printable ASCII characters."
    return failed(400, Outcome.INVALID, "invalid_request", "idempotency_key_malformed", text)


def idempotency_key_is_secret() -> GatewayError:
    """Idempotency keys are stored as they are."""
    text = "The Idempotency-Key contains an API key. Send a random text that is not secret."
    return failed(400, Outcome.INVALID, "invalid_request", "idempotency_key_malformed", text)


def idempotency_key_in_use() -> GatewayError:
    text = "The first request with this Idempotency-Key has not ended yet. Try again in a moment."
    return failed(409, Outcome.INVALID, "invalid_request", "idempotency_key_in_use", text, headers={"retry-after": "1"})


def idempotency_key_reused() -> GatewayError:
    text = "This Idempotency-Key was used for another request. Send a new key with a new request."
    return failed(422, Outcome.INVALID, "invalid_request", "idempotency_key_reused", text)


def stored_answer_unreadable() -> GatewayError:
    """To run the request again instead would bill it again."""
    text = "The stored answer to this Idempotency-Key cannot be decrypted; the operator must restore its encryption key."
    return failed(503, Outcome.UNAVAILABLE, "server_error", "stored_answer_unavailable", text)


def credential_unreadable() -> GatewayError:
    text = "The provider's credential cannot be decrypted; the operator must restore its encryption key."
    return failed(503, Outcome.UNAVAILABLE, "server_error", "credential_unavailable", text)


def upstream_refused(provider: str, reason: str) -> GatewayError:
    return failed(502, Outcome.UPSTREAM_ERROR, "network", "upstream_unreachable", f"{provider} could not be reached: {reason}.")


def bad_answer(provider: str, reason: str) -> GatewayError:
    return failed(
        502, Outcome.UPSTREAM_ERROR, "server_error", "bad_upstream_answer", f"{provider} gave an answer that cannot be read: {reason}"
    )


def upstream_failed(failure: Failure) -> GatewayError:
    """What a provider itself said went wrong."""
    return GatewayError(Outcome.UPSTREAM_ERROR, failure)


def upstream_timeout(provider: str) -> GatewayError:
    return failed(504, Outcome.UPSTREAM_ERROR, "timeout", "upstream_timeout", f"{provider} did not answer in time.")


def client_closed() -> GatewayError:
    """Nobody reads this one; the record keeps it. 499 is nginx's word for a client that left before its answer."""
    return failed(499, Outcome.CLIENT_CLOSED, "network", "client_closed", "The client closed the connection.")


def stopped() -> GatewayError:
    text = "The gateway was stopped before the answer ended. Try again in a moment."
    return failed(503, Outcome.UNAVAILABLE, "server_error", "service_unavailable", text, headers={"retry-after": "2"})


def internal() -> GatewayError:
    return failed(500, Outcome.UNAVAILABLE, "server_error", "internal_error", "The gateway failed on this request.")


def of(error: Exception, provider: str = "The provider") -> GatewayError:
    """What any failure on a request's way means to its caller. Unforeseen ones are logged and say nothing of themselves."""
    match error:
        case GatewayError():
            return error
        case TooManyFailures():
            return too_many_failures(error)
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
        case UpstreamRefused() | BadAddress():
            return upstream_refused(provider, str(error))
        case BadAnswer():
            return bad_answer(provider, str(error))
        case UpstreamTimeout():
            return upstream_timeout(provider)
        case LedgerUnavailable() | DatabaseError():
            log.error("the request cannot be admitted now", reason=str(error))
            return unavailable(error)
        case _:
            log.error("request failed in the gateway", exc_info=error)
            return internal()

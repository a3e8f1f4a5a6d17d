"""Errors that the gateway sends: the status, the text and the outcome of the request."""

import math
import time
from collections.abc import Collection

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from msgspec.structs import replace

from billing.ledger import BudgetExceeded, LedgerUnavailable, RateLimitExceeded, RateLimitStatus
from billing.ledger.interface import DATABASE
from billing.models import Outcome, Period
from billing.money import decimal_usd
from keys.auth_throttle import WINDOW_S, TooManyFailures
from projects.outbound import BlockedURL
from projects.redaction import redact
from proxy.formats.account_ids import ISSUED_KINDS, UPLOADED_KINDS, AccountReference
from proxy.formats.neutral import ApiError, InvalidRequest, InvalidUpstreamResponse
from proxy.http.content_coding import SUPPORTED_CODINGS, BodyTooLarge, CorruptBody, UnsupportedCoding
from proxy.http.disconnect import ClientDisconnected, RequestTimeout
from proxy.http.request import GatewayRequest
from proxy.upstream.errors import UpstreamConnectionError, UpstreamTimeout

ERROR_TYPE_HEADER = "x-gateway-error-type"
"""Header of every error with its type: one of the seven kinds of `ApiError`."""
SERVER_ERROR = "server_error"

log = structlog.get_logger()


class GatewayError(Exception):
    """An error that the gateway sends to the client in the client's format.

    `outcome` is stored in the usage record and counted in the metrics. `headers` are sent with the response.
    """

    def __init__(self, outcome: Outcome, api_error: ApiError, headers: dict[str, str] | None = None) -> None:
        api_error = without_keys(api_error)
        super().__init__(api_error.message)
        self.status, self.outcome, self.api_error, self.headers = (
            api_error.status,
            outcome,
            api_error,
            headers or {},
        )


def without_keys(error: ApiError) -> ApiError:
    """Redact API keys in the texts of an error, which may repeat data of the client or the provider."""
    param = error.param and redact(error.param)
    return replace(error, message=redact(error.message), code=redact(error.code), param=param)


def gateway_error(
    status: int,
    outcome: Outcome,
    kind: str,
    code: str,
    message: str,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> GatewayError:
    return GatewayError(
        outcome, ApiError(kind=kind, code=code, message=message, param=param, status=status), headers
    )


def unauthenticated(message: str) -> GatewayError:
    headers = {"www-authenticate": "Bearer"}
    return gateway_error(401, Outcome.UNAUTHENTICATED, "auth", "invalid_api_key", message, headers=headers)


def rate_limited(message: str, headers: dict[str, str]) -> GatewayError:
    return gateway_error(
        429, Outcome.RATE_LIMITED, "rate_limit", "rate_limit_exceeded", message, headers=headers
    )


def unavailable(code: str, message: str, headers: dict[str, str] | None = None) -> GatewayError:
    return gateway_error(503, Outcome.UNAVAILABLE, "server_error", code, message, headers=headers)


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


def unknown_model(model: str, hint: str = "") -> GatewayError:
    text = f"The model {model} does not exist or this project has no access to it.{hint}"
    return gateway_error(404, Outcome.INVALID_REQUEST, "unknown_model", "model_not_found", text, "model")


INVALID_ROUTE = "invalid_route"


def invalid_route(name: str, reasons: str) -> GatewayError:
    """Return the error for a route of the project that became invalid after it was saved."""
    text = (
        f"The route {name} of this project cannot be used. {reasons} "
        "An admin of the project can change it on the Routes page."
    )
    return gateway_error(404, Outcome.INVALID_REQUEST, "unknown_model", INVALID_ROUTE, text, "model")


MAX_SHOWN_ID_LENGTH = 100


def not_issued(reference: AccountReference) -> GatewayError:
    """Return the error for an id that was not issued to the project.

    The error does not show whether another project has the id.
    """
    noun, shown = ISSUED_KINDS[reference.kind], reference.id[:MAX_SHOWN_ID_LENGTH]
    text = (
        f"{noun} with id '{shown}' not found. In the operator's account at this provider, a project can only "
        "use ids that it received from the gateway. For ids from elsewhere, use a provider credential of the "
        "project's own."
    )
    code = "previous_response_not_found" if reference.kind == "response" else f"{reference.kind}_not_found"
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", code, text, reference.param)


def not_shared(reference: AccountReference) -> GatewayError:
    """Return the error for an object whose project the gateway cannot determine."""
    noun, shown = UPLOADED_KINDS[reference.kind], reference.id[:MAX_SHOWN_ID_LENGTH]
    code = f"{reference.kind}_not_found"
    text = (
        f"The field {reference.param} names a {noun} ('{shown}') in the operator's account at this provider, "
        f"which several projects share. The gateway cannot know to which project a {noun} belongs, so it "
        "does not send the id. Send the content itself, or use a provider credential of the project's own."
    )
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", code, text, reference.param)


def unknown_route(path: str) -> GatewayError:
    text = f"Unknown path: {path[:200]}. The paths of the APIs begin with /v1/, /anthropic/v1/ or /v1beta/."
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "unknown_url", text)


def unknown_key() -> GatewayError:
    text = "This project has no API key with that id."
    return gateway_error(404, Outcome.INVALID_REQUEST, "invalid_request", "unknown_key", text)


def wrong_method(request: GatewayRequest, allowed: Collection[str]) -> GatewayError:
    """Return a 405, or a 426 for a WebSocket handshake. After a 426, clients such as Codex use HTTP."""
    if request.method == "GET" and request.header(b"upgrade").lower() == "websocket":
        return websockets_unsupported(allowed)
    names = ", ".join(allowed)
    text = f"{(request.method or '')[:20]} is not allowed for this URL. Use {names}."
    return gateway_error(
        405, Outcome.INVALID_REQUEST, "invalid_request", "method_not_allowed", text, headers={"allow": names}
    )


def websockets_unsupported(allowed: Collection[str]) -> GatewayError:
    text = f"This URL does not support WebSockets. Send the request with {', '.join(allowed)} over HTTP."
    headers = {"upgrade": "HTTP/1.1", "connection": "upgrade"}
    return gateway_error(
        426, Outcome.INVALID_REQUEST, "invalid_request", "websockets_unsupported", text, headers=headers
    )


def invalid_request(error: InvalidRequest) -> GatewayError:
    return gateway_error(
        400, Outcome.INVALID_REQUEST, "invalid_request", "invalid_request_error", str(error), error.param
    )


def body_too_large(limit: int) -> GatewayError:
    text = f"The request body is larger than {limit} bytes. Send a shorter request."
    return gateway_error(413, Outcome.INVALID_REQUEST, "invalid_request", "request_too_large", text)


def unreadable_body(error: BodyTooLarge | UnsupportedCoding | CorruptBody) -> GatewayError:
    match error:
        case BodyTooLarge():
            return body_too_large(settings.MAX_BODY_BYTES)
        case UnsupportedCoding():
            return unsupported_coding(str(error))
        case CorruptBody():
            return corrupt_body(error.coding)


def unsupported_coding(codings: str) -> GatewayError:
    """Return the error for a content coding that cannot be decoded.

    It names the supported codings (RFC 9110, 15.5.16).
    """
    text = (
        f"The request body has the content coding {codings[:100]}, which is not supported. "
        f"Send it without a coding, or with one of {SUPPORTED_CODINGS}."
    )
    return gateway_error(
        415,
        Outcome.INVALID_REQUEST,
        "invalid_request",
        "unsupported_content_coding",
        text,
        headers={"accept-encoding": SUPPORTED_CODINGS},
    )


def corrupt_body(coding: str) -> GatewayError:
    text = f"The request body is not valid {coding}, which its Content-Encoding states."
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "invalid_content_coding", text)


def format_not_convertible(model: str, provider: str) -> GatewayError:
    text = (
        f"{provider} serves the model {model} in a format to which requests to this URL cannot be converted. "
        "Use another model, or a URL of the provider's own format."
    )
    return gateway_error(400, Outcome.INVALID_REQUEST, "invalid_request", "unsupported_model", text, "model")


def budget_exceeded(denial: BudgetExceeded) -> GatewayError:
    budget = denial.budget
    period, owner = Period(budget.period).label, "project's" if budget.is_project_wide else "key's"
    text = (
        f"The {owner} {period} budget of ${decimal_usd(budget.limit_nano)} has "
        f"${decimal_usd(denial.remaining)} left and this request may cost ${decimal_usd(denial.needed)}. "
    )
    headers = {"x-should-retry": "false"}
    if denial.resets_at is None:
        text += "This budget does not reset."
    else:
        text += f"It resets at {denial.resets_at:%Y-%m-%dT%H:%M:%SZ}."
        headers["retry-after"] = str(max(int(denial.resets_at.timestamp() - time.time()), 1))
    return gateway_error(
        429, Outcome.BUDGET_EXCEEDED, "rate_limit", "insufficient_quota", text, headers=headers
    )


def budget_exhausted_midstream() -> GatewayError:
    text = "The response was aborted, because its cost has used up the budget."
    return gateway_error(429, Outcome.BUDGET_EXCEEDED, "rate_limit", "insufficient_quota", text)


LIMIT_TEXT = {
    "requests": "send {} requests per minute",
    "tokens": "use {} tokens per minute",
    "concurrent": "have {} requests in progress at once",
}


def rate_limit_exceeded(denial: RateLimitExceeded) -> GatewayError:
    text = f"This {denial.rate_limit.owner_kind} may {LIMIT_TEXT[denial.kind].format(denial.limit)}. "
    if denial.retry_after is None:
        text += "This request alone may use more. Send less input, or lower max_tokens."
        return rate_limited(text, {"x-should-retry": "false"})
    wait = math.ceil(denial.retry_after)
    headers = {"retry-after": str(wait), "retry-after-ms": str(math.ceil(denial.retry_after * 1000))}
    return rate_limited(f"{text}Try again in {wait} seconds.", headers)


def rate_limit_headers(status: RateLimitStatus) -> dict[str, str]:
    """Return the headers with the rate-limit status.

    Most of them are OpenAI's headers. Two more headers report the limit of requests in another form. The
    counters of the ledger last a little longer than a minute, which is the window that clients know.
    """
    headers: dict[str, str] = {}
    for kind, allowance in (("requests", status.requests), ("tokens", status.tokens)):
        if allowance is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(allowance.remaining)
            headers[f"x-ratelimit-reset-{kind}"] = f"{min(allowance.resets_after, WINDOW_S):.3f}s"
    if status.requests is not None:
        headers["x-ratelimit-remaining"] = str(status.requests.remaining)
        headers["x-ratelimit-reset-ms"] = str(int(min(status.requests.resets_after, WINDOW_S) * 1000))
    return headers


def unpriced_model(model: str) -> GatewayError:
    text = (
        f"The price of the model {model} is not known, so a budget cannot cover it. "
        "Use another model, or a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "model_not_priced", text, "model")


def unbounded_cost(field: str) -> GatewayError:
    text = (
        f"The cost of the field {field} is not known, so a budget cannot cover it. "
        "Remove the field, or use a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "cost_not_bounded", text, field)


def unpriced_tool(tool: str) -> GatewayError:
    text = (
        f"The price of the tool {tool[:MAX_SHOWN_ID_LENGTH]} is not known, so a budget cannot cover it. "
        "Remove the tool, or use a key without a budget."
    )
    return gateway_error(400, Outcome.BUDGET_EXCEEDED, "invalid_request", "cost_not_bounded", text, "tools")


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

"""Responses that the gateway creates: its headers, and its errors in the client's format."""

import asyncio
from collections.abc import Callable

import msgspec

from billing.ledger import (
    NO_LIMITS,
    AdmissionDenied,
    BudgetExceeded,
    LimitStatus,
    RateLimitExceeded,
    RateLimitStatus,
)
from billing.models import Outcome
from keys.auth_throttle import auth_failures
from projects.ids import uuid7
from proxy import errors, telemetry
from proxy.errors import GatewayError
from proxy.formats.neutral import ApiError
from proxy.formats.registry import CODECS
from proxy.http.cancellation import outlive_cancellation, outliving_cancellation
from proxy.http.client_ip import client_ip
from proxy.http.request import GatewayRequest
from proxy.http.request_id import REQUEST_ID_HEADER, choose_request_id
from proxy.http.responses import Headers, Response, ResponseWriter
from proxy.operations import GATEWAY_FORMAT
from proxy.pipeline.admission import Admitted, ReservationInterrupted, rate_limit_status
from proxy.pipeline.attempts.call import CallFailed
from proxy.pipeline.attempts.sequence import AttemptSequence
from proxy.pipeline.authenticate import Received
from proxy.pipeline.charges import Charge
from proxy.pipeline.settle import Progress, RequestResult, caller_of, received_of

OUTCOMES_WITHOUT_RATE_LIMITS = (Outcome.CLIENT_CLOSED, Outcome.UNAVAILABLE, Outcome.SHED)
"""Outcomes without rate-limit headers, because nobody reads them or the limits cannot be looked up."""

MAX_DROPPED_LENGTH = 2_000
"""Maximum length of the header with the dropped settings, because clients and proxies reject long ones."""

Failure = Exception | asyncio.CancelledError
ErrorRenderer = Callable[[ApiError, str], bytes]


def render_gateway_error(error: ApiError, request_id: str) -> bytes:
    """Return an error in the gateway's own format."""
    described = {
        "message": error.message,
        "type": error.kind,
        "code": error.code,
        "request_id": request_id,
    }
    return msgspec.json.encode({"success": False, "error": described})


ERROR_RENDERERS: dict[str, ErrorRenderer] = {
    **{format: codec.render_error for format, codec in CODECS.items()},
    GATEWAY_FORMAT: render_gateway_error,
}


async def respond_with_error(progress: Progress, error: Failure, writer: ResponseWriter) -> RequestResult:
    """Send an error in the format of the operation, and return the result of the request.

    A cancellation becomes a 503, because only a server that is shutting down cancels requests.
    """
    result, shown = result_of(error)
    headers = with_dropped(progress.headers(), result.dropped)
    if isinstance(error, AdmissionDenied):
        telemetry.request_denied(error.kind if isinstance(error, RateLimitExceeded) else "budget")
        headers |= errors.rate_limit_headers(error.rate_limit_status)
    else:
        headers |= await rate_limit_headers(progress, result.outcome)
    headers |= {**error_headers(shown), **shown.headers}
    received = received_of(progress)
    body = ERROR_RENDERERS[received.operation.format](shown.api_error, received.request_id)
    writer.respond(Response(result.status, headers, body))
    return result


def unrecorded_error(request: GatewayRequest, error: GatewayError, format: str) -> Response:
    """Render an error for a request that needs no key and leaves no usage record."""
    request_id = choose_request_id(request, uuid7())
    headers = {
        REQUEST_ID_HEADER: request_id,
        "x-content-type-options": "nosniff",
        **error_headers(error),
        **error.headers,
    }
    return Response(error.status, headers, ERROR_RENDERERS[format](error.api_error, request_id))


def error_headers(error: GatewayError) -> Headers:
    """Return the headers of every error of the gateway."""
    return {"content-type": "application/json", errors.ERROR_TYPE_HEADER: error.api_error.kind}


def result_of(error: Failure) -> tuple[RequestResult, GatewayError]:
    """Return the result of a failed request, and the error for its client."""
    charge: Charge | None = None
    budget_id: int | None = None
    dropped: tuple[str, ...] = ()
    match error:
        case asyncio.CancelledError():
            outlive_cancellation()
            shown = errors.shutting_down()
        case ReservationInterrupted():
            shown = errors.shutting_down()
        case CallFailed():
            shown, charge, dropped = error.error, error.charge, error.dropped
        case BudgetExceeded():
            shown, budget_id = errors.from_exception(error), error.budget.id
        case _:
            shown = errors.from_exception(error)
    result = RequestResult(
        shown.outcome,
        shown.status,
        shown.api_error.code,
        charge,
        blocking_budget_id=budget_id,
        dropped=dropped,
        error_type=shown.api_error.kind,
        is_recorded=isinstance(error, ReservationInterrupted),
    )
    return result, shown


def with_dropped(headers: Headers, dropped: tuple[str, ...]) -> Headers:
    """Add the header that names the dropped settings. A long list of names is cut."""
    names = ", ".join(dropped)
    shown = f"{names[:MAX_DROPPED_LENGTH]}..." if len(names) > MAX_DROPPED_LENGTH else names
    return {**headers, "x-gateway-dropped": shown} if dropped else headers


async def rate_limit_headers(progress: Progress, outcome: Outcome) -> Headers:
    """Look up the rate-limit headers for a caller without a reservation.

    The result is empty after admission, because the headers of the reservation already contain them. Before
    authentication, they report the limit on failed authentications of the client's network.
    """
    match progress:
        case Admitted() | AttemptSequence():
            return {}
        case _ if outcome in OUTCOMES_WITHOUT_RATE_LIMITS:
            return {}
        case Received():
            return throttle_headers(progress.request)
        case _:
            status = NO_LIMITS
            with outliving_cancellation():
                status = await rate_limit_status(caller_of(progress))
            return errors.rate_limit_headers(status)


def throttle_headers(request: GatewayRequest) -> Headers:
    """Return the rate-limit headers for a client without a valid key."""
    throttle = auth_failures.status(client_ip(request.scope))
    if throttle is None:
        return {}
    limit = LimitStatus(throttle.limit, throttle.remaining, throttle.resets_after)
    return errors.rate_limit_headers(RateLimitStatus(requests=limit))

"""Failures of calls: what failed, whether it may be repeated, and what it costs."""

from dataclasses import dataclass, replace

from projects.outbound import BlockedURL
from projects.redaction import redact
from proxy.formats.neutral import ApiError, InvalidRequest, InvalidUpstreamResponse
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts.call import CallFailed, OpenStream, ReceivedBody, WholeResponse
from proxy.pipeline.charges import Charge, charge, lost_usage
from proxy.relayed_errors import UPSTREAM_STATUS, retry_delay_s
from proxy.upstream.errors import UpstreamError, UpstreamTimeout
from proxy.upstream.failures import FailureClass, classify
from proxy.upstream.response import UpstreamResponse

SHOULD_RETRY = "x-should-retry"
"""A header by which OpenAI and Anthropic tell their SDKs whether to repeat a request."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that failed before its client got anything.

    `status` is 0 if the provider did not respond. `is_outage` is true if the provider itself failed, and
    false if the request may have caused the failure. `charge` covers what the provider may bill. `reason` is
    the provider's message. `response` is set if it must be closed.
    """

    kind: FailureClass
    status: int
    code: str
    is_outage: bool = False
    charge: Charge | None = None
    retry_after_s: float | None = None
    reason: str = ""
    response: UpstreamResponse | None = None

    async def close(self) -> None:
        """Close the connection of a stream that is not relayed."""
        if self.response is not None:
            async with self.response:
                pass


def failure_of(
    admitted: Admitted, result: OpenStream | WholeResponse | ReceivedBody | CallFailed | InvalidRequest
) -> Failure | None:
    """Return the failure of a call, or None if its result can be relayed."""
    match result:
        case OpenStream():
            return opening_failure(admitted, result)
        case WholeResponse():
            return None
        case ReceivedBody():
            status = result.response.status
            reported = admitted.planned.candidate.plan.parse_error(status, result.body)
            return reported_failure(reported, status, result.response)
        case CallFailed():
            return call_failure(admitted, result)
        case InvalidRequest():
            return Failure(FailureClass.TARGET, 0, "unsupported")


def opening_failure(admitted: Admitted, opened: OpenStream) -> Failure | None:
    """Return the failure with which a stream begins. A stream without events may be billed."""
    opening, response = opened.opening, opened.response
    if opening.error is None:
        return None
    failure = reported_failure(opening.error, response.status, response)
    charged = None if opening.is_reported else charge(admitted, lost_usage(admitted), estimated=True)
    return replace(failure, charge=charged, response=response)


def reported_failure(error: ApiError, status: int, response: UpstreamResponse) -> Failure:
    """Return a failure that the provider reported."""
    kind, headers = classify(error), response.headers
    # A project can cause 408, 409 and 429. They must not open a breaker, which other projects may share.
    is_outage = kind is FailureClass.RETRY and error.status >= 500
    if kind is FailureClass.RETRY and headers.get(SHOULD_RETRY) == "false":
        kind = FailureClass.TARGET
    code = error.code or UPSTREAM_STATUS
    return Failure(kind, status, code, is_outage, None, retry_delay_s(error, headers), redact(error.message))


def call_failure(admitted: Admitted, failed: CallFailed) -> Failure:
    """Return the failure of a call that ended with an exception.

    A background response may have been created, so it is not requested again. A provider that was silent for
    the whole timeout of a non-streaming response may complete and bill it, so only another target is called.
    A broken body is a failure like a broken connection.
    """
    facts, code = admitted.planned.candidate.plan.facts, failed.error.api_error.code
    match failed.__cause__:
        case UpstreamError() as error if facts.is_background and error.may_be_billed:
            kind = FailureClass.FINAL
        case InvalidUpstreamResponse():
            kind = FailureClass.FINAL if facts.is_background else FailureClass.RETRY
        case UpstreamTimeout() as error if error.may_be_billed and not facts.stream:
            kind = FailureClass.TARGET
        case UpstreamError() as error:
            kind = FailureClass.RETRY if error.is_transient else FailureClass.TARGET
        case BlockedURL():
            kind = FailureClass.TARGET
        case _:
            kind = FailureClass.FINAL
    is_outage = isinstance(failed.__cause__, UpstreamError | InvalidUpstreamResponse)
    if isinstance(failed.__cause__, UpstreamTimeout):
        is_outage = not has_routes_timeout(admitted)
    return Failure(kind, 0, code, is_outage, failed.charge)


def has_routes_timeout(admitted: Admitted) -> bool:
    """Return whether a route sets the timeout of a shared account, which says little about the provider."""
    target = admitted.planned.candidate.target
    return target.timeout_s is not None and target.account.can_be_shared

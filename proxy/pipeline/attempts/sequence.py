"""The calls of one request: retries of a target, then its fallbacks, until one call succeeds.

All calls end before the client gets anything. Each call that may be billed is charged. The reservation is
then extended by this charge, as far as the budgets allow it. The next call runs only if the rest of the
reservation covers it.
"""

import asyncio
import time
from dataclasses import dataclass, replace

from django.conf import settings

from billing.ledger import UsageEntry
from billing.ledger.usage_entry import Attempt
from billing.models import Outcome
from projects.redaction import redact
from proxy import errors, telemetry
from proxy.errors import GatewayError
from proxy.formats.neutral import InvalidRequest
from proxy.http.responses import Headers
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts import backoff
from proxy.pipeline.attempts.call import CallFailed, OpenStream, ReceivedBody, WholeResponse, call
from proxy.pipeline.attempts.failure import Failure, failure_of
from proxy.pipeline.charges import Charge, apply_charges
from proxy.routing.health.target_health import TargetHealth, health
from proxy.routing.routes.latency import latency_averages
from proxy.routing.targets import Candidate, Target
from proxy.upstream.failures import FailureClass

TOO_MANY_REQUESTS = 429
Result = OpenStream | WholeResponse | ReceivedBody | CallFailed | InvalidRequest
"""The result of a call. An exception is raised only if no other call follows."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A call that was followed by another one."""

    attempt: Attempt
    charge: Charge | None


class AttemptSequence:
    """The calls of an admitted request.

    `admitted` describes the current call, which goes to the first of its candidates.
    """

    def __init__(self, admitted: Admitted) -> None:
        self.admitted = admitted
        self.failed: list[FailedAttempt] = []
        self.retries = 0
        self.started_at = 0.0
        self.is_calling = False
        self.has_response = False
        self.last_failure: Failure | None = None
        """The failure of the last call; None if it has a response that is relayed."""
        self.uses_health = settings.ENV.ai_gateway_breaker == "on"
        """Whether the health of targets decides which ones are called."""

    def headers(self) -> Headers:
        """Return the headers of the current call."""
        return self.admitted.headers()

    def usage_entry(self) -> UsageEntry:
        """Return the usage record with the target of the current call."""
        return self.admitted.usage_entry()

    @property
    def spent_nano(self) -> int:
        """The cost of the failed calls, in nano-USD."""
        return sum(failed.attempt.cost_nano for failed in self.failed)

    @property
    def target_health(self) -> TargetHealth:
        """The health of the current target."""
        return self.health_of(self.admitted.planned.candidate)

    def health_of(self, candidate: Candidate) -> TargetHealth:
        project_id = self.admitted.planned.routed.parsed.caller.principal.project_id
        return health.of(project_id, candidate.target)

    async def run(self) -> OpenStream | WholeResponse | ReceivedBody:
        """Call targets until a call succeeds or no other call may follow. Return the result of the last call.

        Raises CallFailed, InvalidRequest, GatewayError if no target may be called now, and ClientDisconnected
        if the client disconnects between two calls.
        """
        await self.choose_first_target()
        first_started_at = time.perf_counter()
        while True:
            result = await self.call()
            failure = failure_of(self.admitted, result)
            if failure is not None:
                self.record_failure(failure)
            if failure is None or not await self.prepare_next_call(failure):
                break
        self.last_failure = failure
        if isinstance(result, Exception):
            raise result
        if failure is None:
            self.record_response(result.upstream_s)
        # The time of failed calls and of the waits between them is not spent in the gateway.
        earlier_s = self.started_at - first_started_at if self.failed else 0.0
        return replace(result, upstream_s=result.upstream_s + earlier_s) if earlier_s else result

    async def choose_first_target(self) -> None:
        """Choose the target of the first call. Raises GatewayError if no target may be called now."""
        candidates = self.admitted.planned.candidates
        if self.uses_health and len(candidates) > 1:
            candidates = health.preferred(
                self.admitted.planned.routed.parsed.caller.principal.project_id, candidates
            )
        if candidates[0] is self.admitted.planned.candidate and await self.begin_call(candidates[0]):
            return
        first = await self.choose(1, candidates)
        if first is None:
            raise self.circuit_open(candidates)
        self.admitted = first

    def circuit_open(self, candidates: tuple[Candidate, ...]) -> GatewayError:
        """Return the error for candidates whose breakers are all open."""
        now = health.clock()
        waits = [self.health_of(candidate).breaker.open_until - now for candidate in candidates]
        return errors.circuit_open(candidates[0].target.account.provider.name, min(waits))

    async def begin_call(self, candidate: Candidate) -> bool:
        """Return whether a target may be called now. If it may, the call must follow."""
        target_health, now = self.health_of(candidate), health.clock()
        if self.uses_health and not target_health.begin_call(now):
            return False
        if self.uses_health and target_health.breaker.is_open and not await health.claim_probe(target_health):
            return False
        target_health.retry_budget.add_request(now)
        return True

    async def choose(self, number: int, candidates: tuple[Candidate, ...]) -> Admitted | None:
        """Return the permission to call the first candidate that may be called now; None if none may."""
        for index, candidate in enumerate(candidates):
            permitted = await self.permit(number, candidates[index:])
            if permitted is not None and await self.begin_call(candidate):
                return permitted
        return None

    async def permit(self, number: int, candidates: tuple[Candidate, ...]) -> Admitted | None:
        """Return the permission to call the first candidate, or None if a hard budget does not cover it.

        If failed calls have used a part of the reservation, it is extended as far as the budgets allow it.
        """
        if spent_nano := self.spent_nano:
            self.admitted = await self.admitted.cover(candidates[0], spent_nano)
        return self.admitted.for_call(number, candidates, spent_nano)

    async def call(self) -> Result:
        self.started_at, self.is_calling = time.perf_counter(), True
        try:
            return await call(self.admitted)
        except (CallFailed, InvalidRequest) as error:
            return error

    async def prepare_next_call(self, failure: Failure) -> bool:
        """Record a failed call and wait until the next one may begin. Return False if it was the last one."""
        # The charge is recorded first, because the request may be cancelled while the next call is chosen.
        self.failed.append(FailedAttempt(self.attempt_of(failure), failure.charge))
        self.is_calling = False
        following, delay_s = await self.next_call(failure)
        if following is None:
            self.failed.pop()
            self.is_calling = True
            return False
        await failure.close()
        self.retries = 0 if delay_s is None else self.retries + 1
        if delay_s:
            await self.wait(delay_s)
        self.admitted = following
        return True

    async def next_call(self, failure: Failure) -> tuple[Admitted | None, float | None]:
        """Return the permission for the call after a failure, or None.

        The second value is the seconds to wait before a retry of the same target, or None if another target
        is called.
        """
        number, candidates = self.admitted.number + 1, self.admitted.planned.candidates
        if following := await self.other_credential(failure, number):
            return following, None
        delay_s = self.retry_delay_s(failure)
        if delay_s is not None and (following := await self.permit(number, candidates)):
            return following, delay_s
        return await self.choose(number, self.fallbacks(failure)), None

    async def other_credential(self, failure: Failure, number: int) -> Admitted | None:
        """Return the permission to call the same model with the next credential after a 429.

        The rate limit applies to one credential, so the next call need not wait. The result is None if the
        failure was not a 429, or if no other credential may be called.
        """
        failed, *others = self.admitted.planned.candidates
        is_rate_limited = failure.kind is FailureClass.RETRY and failure.status == TOO_MANY_REQUESTS
        if not is_rate_limited or not others or not is_same_model(failed.target, others[0].target):
            return None
        following = await self.permit(number, tuple(others))
        return following if following is not None and await self.begin_call(others[0]) else None

    def retry_delay_s(self, failure: Failure) -> float | None:
        """Return the seconds until the same target may be called again; None if it may not."""
        resolution = self.admitted.planned.routed.resolution
        if failure.kind is not FailureClass.RETRY or self.retries >= resolution.retry_attempts:
            return None
        now, target_health = health.clock(), self.target_health
        if self.uses_health and target_health.breaker.is_open:
            return None
        delay_s = backoff.delay_s(resolution.retry_delay_ms, self.retries, failure.retry_after_s)
        return delay_s if delay_s is not None and target_health.retry_budget.take_retry(now) else None

    def fallbacks(self, failure: Failure) -> tuple[Candidate, ...]:
        """Return the other candidates that may succeed although the current one has failed."""
        failed, *others = self.admitted.planned.candidates
        return tuple(other for other in others if self.may_succeed(failure, failed.target, other.target))

    def may_succeed(self, failure: Failure, failed: Target, other: Target) -> bool:
        match failure.kind:
            case FailureClass.FINAL:
                return False
            case FailureClass.CONTEXT_LENGTH:
                is_allowed = self.admitted.planned.routed.resolution.retries_context_length
                return is_allowed and other.model != failed.model
            case FailureClass.CREDENTIAL:
                return other.account != failed.account
            case _:
                return True

    async def wait(self, delay_s: float) -> None:
        """Wait before the next call. Raises ClientDisconnected."""
        async with self.admitted.planned.routed.parsed.caller.received.request.disconnect_watcher:
            await asyncio.sleep(delay_s)

    # What is recorded ------------------------------------------------------------------------------

    def record_failure(self, failure: Failure) -> None:
        """Count a failed call in the health of its target."""
        target = self.admitted.planned.candidate.target
        telemetry.upstream_call_failed(target.account.provider.slug, failure.kind.value)
        if not self.uses_health:
            return
        if failure.is_outage:
            self.target_health.record_outage(health.clock(), failure.code)
        elif failure.status:
            self.target_health.record_rejection(health.clock(), failure.kind, failure.reason)
            if failure.kind is FailureClass.RETRY and failure.retry_after_s:
                self.target_health.cool_down(health.clock(), failure.retry_after_s)

    def record_response(self, upstream_s: float) -> None:
        """Count a call that got a response. Only the end of the response shows whether it is complete."""
        self.has_response = True
        target = self.admitted.planned.candidate.target
        latency_averages.observe(target.account, target.model, upstream_s)
        if self.uses_health:
            self.target_health.record_response()

    def attempt_of(self, failure: Failure) -> Attempt:
        return self.attempt(failure.status, failure.code, failure.charge)

    def attempt(self, status: int, error: str, charge: Charge | None) -> Attempt:
        """Return the current call as it is stored on the record."""
        target = self.admitted.planned.candidate.target
        return Attempt(
            provider=target.account.slug,
            model=redact(target.model),
            status=status,
            error=redact(error),
            ms=round((time.perf_counter() - self.started_at) * 1000),
            cost_nano=charge.cost_nano if charge else 0,
        )

    def complete(
        self, entry: UsageEntry, outcome: Outcome, status: int, error: str, charge: Charge | None
    ) -> None:
        """Write the charges of all calls to the record, and the calls if the first one failed.

        `outcome`, `status`, `error` and `charge` are those of the request, which its last call decides.
        """
        charges = [failed.charge for failed in self.failed if failed.charge]
        charges += [charge] if charge else []
        if charges:
            apply_charges(entry, charges)
        if self.failed or (error and self.is_calling):
            entry.attempts = [failed.attempt for failed in self.failed]
            entry.attempts += [self.last_attempt(status, error, charge)] if self.is_calling else []
        if self.has_response and self.uses_health:
            self.record_end(outcome, error)

    def last_attempt(self, status: int, error: str, charge: Charge | None) -> Attempt:
        """Return the last call, with its own failure if it has no response that was relayed."""
        failure = self.last_failure
        if failure is None:
            return self.attempt(status, error, charge)
        return self.attempt(failure.status, failure.code, charge)

    def record_end(self, outcome: Outcome, error: str) -> None:
        """Count the end of a response. An interrupted stream is a failure, even with a success status."""
        if outcome is Outcome.OK:
            self.target_health.record_success(health.clock())
        elif outcome is Outcome.UPSTREAM_ERROR:
            self.target_health.record_outage(health.clock(), error)


def is_same_model(target: Target, other: Target) -> bool:
    """Return whether two targets are the same model of one provider."""
    return (target.model, target.account.provider) == (other.model, other.account.provider)

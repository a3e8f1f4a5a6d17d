"""The calls of one request: retries of a target, then its fallbacks, until one call succeeds.

All calls end before the client gets anything. Each call that may be billed is charged, and the next one runs
only if what is left of the reservation covers it.
"""

import asyncio
import time
from dataclasses import dataclass

from billing.ledger import UsageEntry
from billing.ledger.usage_entry import Attempt
from projects.redaction import redact
from proxy.formats.neutral import InvalidRequest
from proxy.http.responses import Headers
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts import backoff
from proxy.pipeline.attempts.call import CallFailed, OpenStream, WholeResponse, call
from proxy.pipeline.attempts.failure import Failure, failure_of
from proxy.pipeline.charges import Charge, apply_charges
from proxy.routing.targets import Candidate
from proxy.upstream.failures import FailureClass

Result = OpenStream | WholeResponse | CallFailed | InvalidRequest
"""What a call led to. The exceptions are raised if it was the last call."""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A call that was followed by another one."""

    attempt: Attempt
    charge: Charge | None


class AttemptSequence:
    """The calls of an admitted request. `admitted` permits the current call, and has its candidate first."""

    def __init__(self, admitted: Admitted) -> None:
        self.admitted = admitted
        self.failed: list[FailedAttempt] = []
        self.retries = 0
        self.started_at = 0.0

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

    async def run(self) -> OpenStream | WholeResponse:
        """Call targets until a call succeeds, or none may follow it. Return the result of the last call.

        Raises CallFailed, InvalidRequest, and ClientDisconnected if the client disconnects between two calls.
        """
        while True:
            result = await self.call()
            failure = failure_of(self.admitted, result)
            if failure is None or not await self.prepare_next_call(failure):
                break
        if isinstance(result, Exception):
            raise result
        return result

    async def call(self) -> Result:
        self.started_at = time.perf_counter()
        try:
            return await call(self.admitted)
        except (CallFailed, InvalidRequest) as error:
            return error

    async def prepare_next_call(self, failure: Failure) -> bool:
        """Record a failed call and wait until the next one may begin. Return False if it was the last one."""
        spent_nano = self.spent_nano + (failure.charge.cost_nano if failure.charge else 0)
        if (delay_s := self.retry_delay_s(failure)) is not None:
            following = self.admitted.next_call(self.admitted.planned.candidates, spent_nano)
        else:
            delay_s, following = 0.0, self.fallback(failure, spent_nano)
        if following is None:
            return False
        self.failed.append(FailedAttempt(self.attempt_of(failure), failure.charge))
        await failure.close()
        await self.wait(delay_s)
        is_retry = following.planned.candidate is self.admitted.planned.candidate
        self.retries = self.retries + 1 if is_retry else 0
        self.admitted = following
        return True

    def retry_delay_s(self, failure: Failure) -> float | None:
        """Return the seconds until the same target may be called again; None if it may not."""
        resolution = self.admitted.planned.routed.resolution
        if failure.kind is not FailureClass.RETRY or self.retries >= resolution.retry_attempts:
            return None
        return backoff.delay_s(resolution.retry_delay_ms, self.retries, failure.retry_after_s)

    def fallback(self, failure: Failure, spent_nano: int) -> Admitted | None:
        """Return the permission to call the first fallback that may succeed, or None."""
        if failure.kind is FailureClass.FINAL:
            return None
        candidates = self.admitted.planned.candidates
        current, rest = candidates[0], candidates[1:]
        while rest:
            if self.may_succeed(failure, current, rest[0]) and (
                following := self.admitted.next_call(rest, spent_nano)
            ):
                return following
            rest = rest[1:]
        return None

    def may_succeed(self, failure: Failure, failed: Candidate, other: Candidate) -> bool:
        """Return whether another candidate may succeed where this one has failed."""
        match failure.kind:
            case FailureClass.CONTEXT_LENGTH:
                is_allowed = self.admitted.planned.routed.resolution.retries_context_length
                return is_allowed and other.target.model != failed.target.model
            case FailureClass.CREDENTIAL:
                return other.target.account != failed.target.account
            case _:
                return True

    async def wait(self, delay_s: float) -> None:
        """Wait before the next call. Raises ClientDisconnected."""
        if delay_s > 0:
            async with self.admitted.planned.routed.parsed.caller.received.request.disconnect_watcher:
                await asyncio.sleep(delay_s)

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

    def complete(self, entry: UsageEntry, status: int, error: str, charge: Charge | None) -> None:
        """Write the charges of all calls to the record, and the calls if there is more than one.

        `status`, `error` and `charge` are those of the last call.
        """
        charges = [failed.charge for failed in self.failed if failed.charge]
        charges += [charge] if charge else []
        if charges:
            apply_charges(entry, charges)
        if self.failed or error:
            entry.attempts = [failed.attempt for failed in self.failed]
            entry.attempts.append(self.attempt(status, error, charge))

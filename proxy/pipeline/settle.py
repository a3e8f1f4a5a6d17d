"""The stage `settle`: settle the reservation, write the usage record, and count and log the request."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from billing import ledger
from billing.ledger import UsageEntry
from billing.models import Outcome
from billing.money import decimal_usd
from projects.redaction import redact
from proxy import errors, telemetry, trace_context
from proxy.http.cancellation import outliving_cancellation
from proxy.http.load_shedder import load_shedder
from proxy.pipeline.account_ids import LocatedResponse
from proxy.pipeline.admission import Admitted
from proxy.pipeline.attempts.sequence import AttemptSequence
from proxy.pipeline.authenticate import Authenticated, Received, in_flight
from proxy.pipeline.background.deferral import discard
from proxy.pipeline.charges import Charge, warn_of_unknown_tier
from proxy.pipeline.parse import Parsed
from proxy.pipeline.route import Planned, Routed
from proxy.routing import config_file
from proxy.routing.targets import Target

Recorded = Authenticated | LocatedResponse | Parsed[Any] | Routed | Planned | Admitted | AttemptSequence
"""Stages of a request for which a usage record is written."""
Progress = Received | Recorded
"""The last stage that a request has reached."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RequestResult:
    """The result of a request.

    `charge` is None if nothing is billed. `first_token_at` is a value of `time.perf_counter`.
    `blocking_budget_id` is the budget that denied the request. `dropped` names the dropped settings.
    `error_type` is the kind of the error (see `ApiError`); if it is empty, a failure is a `server_error`.
    `is_recorded` is true if the ledger itself has written the record. `is_deferred` is true if the response
    continues in the background; the record is written when it has ended. `was_background` is true if the
    response was stored as a background response, but ended before the request did. `saved_nano` is the cost
    that a response from the cache has saved.
    """

    outcome: Outcome
    status: int
    error_code: str = ""
    charge: Charge | None = None
    first_token_at: float | None = None
    blocking_budget_id: int | None = None
    dropped: tuple[str, ...] = ()
    error_type: str = ""
    is_recorded: bool = False
    is_deferred: bool = False
    was_background: bool = False
    saved_nano: int = 0

    @property
    def succeeded(self) -> bool:
        """Return whether the client got a complete response."""
        return self.outcome in (Outcome.OK, Outcome.CACHED)


INTERRUPTED = RequestResult(Outcome.UNAVAILABLE, 503, "service_unavailable")
"""The result to record for a request that is interrupted before its own result is known."""


async def settle(progress: Progress, result: RequestResult) -> None:
    """Settle a request once, before its response is complete for the client.

    If the server cancels the request while the ledger writes the record, the ledger completes the write. The
    client's response then agrees with the record.
    """
    seconds = time.perf_counter() - received_of(progress).started_at
    match progress:
        case Received() if result.outcome is Outcome.SHED:
            pass  # One log line covers many shed requests.
        case Received():
            log_request(progress, result, seconds, UNKNOWN_CALLER_FIELDS)
        case _:
            caller = caller_of(progress)
            try:
                entry = await record(progress, result, seconds)
            finally:
                in_flight.discard(caller)
                load_shedder.leave(caller.principal.project_slug)
            count_usage(progress, entry, result)
            log_request(caller.received, result, seconds, logged_fields(caller, entry))
    model, provider = labels(progress)
    telemetry.request_finished(
        received_of(progress).operation.api_family,
        model,
        provider,
        result.outcome.value,
        result.status,
        result.error_type or errors.SERVER_ERROR,
        seconds,
        routed_provider(progress),
    )


async def record(progress: Recorded, result: RequestResult, seconds: float) -> UsageEntry:
    """Write the usage record, unless the ledger has written it, and return it."""
    entry = complete_entry(progress, result, seconds)
    warn_of_unknown_tier(entry)
    if not result.is_recorded:
        with outliving_cancellation():
            await save(progress, entry, result)
            if result.was_background:
                await discard(entry.id)
    return entry


def count_usage(progress: Recorded, entry: UsageEntry, result: RequestResult) -> None:
    """Count what a record contains. A deferred record is counted when its response has ended."""
    if result.is_deferred:
        return
    model, provider = labels(progress)
    if entry.cost_nano or entry.tokens.prompt or entry.tokens.output:
        telemetry.usage_recorded(model, provider, entry.tokens, entry.cost_nano)
    if entry.first_token_us is not None:
        api_family = received_of(progress).operation.api_family
        telemetry.first_token_received(api_family, model, provider, entry.first_token_us / 1e6)


async def save(progress: Recorded, entry: UsageEntry, result: RequestResult) -> None:
    """Write the record unless it is deferred, and settle or release the reservation if there is one."""
    match progress:
        case AttemptSequence() if result.is_deferred:
            await ledger.current().defer(progress.admitted.reservation)
        case AttemptSequence() if result.charge is not None or progress.spent_nano:
            await ledger.current().settle(progress.admitted.reservation, entry)
        case AttemptSequence():
            await ledger.current().release(progress.admitted.reservation, entry)
        case Admitted():
            await ledger.current().release(progress.reservation, entry)
        case _:
            await ledger.current().record(entry)


def complete_entry(progress: Recorded, result: RequestResult, seconds: float) -> UsageEntry:
    """Return the complete usage record of a request."""
    entry = progress.usage_entry()
    entry.outcome, entry.status_code, entry.error = (
        result.outcome.value,
        result.status,
        redact(result.error_code),
    )
    entry.latency_us, entry.saved_nano = int(seconds * 1e6), result.saved_nano
    if result.first_token_at is not None:
        started_at = caller_of(progress).received.started_at
        entry.first_token_us = int((result.first_token_at - started_at) * 1e6)
    if result.blocking_budget_id is not None:
        entry.blocking_budget_id = result.blocking_budget_id
    if isinstance(progress, AttemptSequence):
        progress.complete(entry, result.outcome, result.status, result.error_code, result.charge)
    return entry


def received_of(progress: Progress) -> Received:
    """Return the `Received` stage of a request."""
    match progress:
        case Received():
            return progress
        case _:
            return caller_of(progress).received


def caller_of(progress: Recorded) -> Authenticated:
    """Return the `Authenticated` stage of a request."""
    match progress:
        case Authenticated():
            return progress
        case Parsed() | LocatedResponse():
            return progress.caller
        case Routed():
            return progress.parsed.caller
        case Planned():
            return progress.routed.parsed.caller
        case Admitted():
            return progress.planned.routed.parsed.caller
        case AttemptSequence():
            return progress.admitted.planned.routed.parsed.caller


def routed_of(progress: Progress) -> Routed | None:
    """Return the `Routed` stage of a request; None if it has not reached it."""
    match progress:
        case Routed():
            return progress
        case Planned():
            return progress.routed
        case Admitted():
            return progress.planned.routed
        case AttemptSequence():
            return progress.admitted.planned.routed
        case _:
            return None


def routed_provider(progress: Progress) -> str:
    """Return the provider of the target that was first chosen; empty if none was chosen yet."""
    routed = routed_of(progress)
    return "" if routed is None else routed.provider


def labels(progress: Progress) -> tuple[str, str]:
    """Return the model and the provider for metrics."""
    match progress:
        case LocatedResponse():
            return telemetry.OTHER_MODEL, progress.account.provider.slug
        case Routed():
            return target_labels(progress, progress.target)
        case Planned():
            return target_labels(progress.routed, progress.candidate.target)
        case Admitted():
            return target_labels(progress.planned.routed, progress.planned.candidate.target)
        case AttemptSequence():
            return labels(progress.admitted)
        case _:
            return telemetry.OTHER_MODEL, ""


def target_labels(routed: Routed, target: Target) -> tuple[str, str]:
    """Return the labels of a target.

    A model has a label of its own if it has a price, or if the operator has configured its name. All others
    share one label, because clients can send any name.
    """
    provider, requested = target.account.provider.slug, routed.parsed.client_request.facts.model
    if target.price:
        return target.model, provider
    return requested if config_file.load().has_model(requested) else telemetry.OTHER_MODEL, provider


def log_request(
    received: Received, result: RequestResult, seconds: float, fields: Mapping[str, object]
) -> None:
    """Write the log line of a request."""
    succeeded = result.status < 400
    log.info(
        "request_completed" if succeeded else "request_failed",
        message="request completed successfully" if succeeded else "request failed",
        request_id=received.request_id,
        trace_id=trace_context.trace_id(received.request) or None,
        duration_ms=round(seconds * 1000, 3),
        status_code=result.status,
        format=received.operation.api_family,
        operation=received.operation.name,
        outcome=result.outcome.value,
        dropped=list(result.dropped) or None,
        error=result.error_code or None,
        **fields,
    )


UNKNOWN_CALLER_FIELDS: dict[str, object] = {
    "model": "",
    "provider": "",
    "streaming": False,
    "project": None,
    "key": None,
    "input_tokens": 0,
    "output_tokens": 0,
    "cost_usd": "0",
}


def logged_fields(caller: Authenticated, entry: UsageEntry) -> dict[str, object]:
    """Return the fields of the log line that come from the usage record."""
    return {
        "model": entry.requested_model,
        "provider": entry.provider,
        "streaming": entry.streamed,
        "project": caller.principal.project_slug,
        "key": caller.principal.public_id,
        "input_tokens": entry.tokens.prompt,
        "output_tokens": entry.tokens.output,
        "cost_usd": decimal_usd(entry.cost_nano),
    }

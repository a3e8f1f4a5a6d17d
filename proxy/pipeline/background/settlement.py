"""Settlement of background responses: one usage record for each, when its result is known or lost.

The record belongs to the request that created the response. The poller or a request of the client writes it.
It is written once, because the ledger ignores a second settlement unless the first one was an estimate.
"""

from dataclasses import dataclass
from datetime import timedelta

import msgspec
import structlog
from django.utils import timezone
from msgspec.structs import replace

from billing import ledger
from billing.ledger import ReservationGrant, UsageEntry
from billing.ledger.usage_entry import decode_entry
from billing.models import Outcome
from billing.money import decimal_usd
from billing.pricing import Price, Tokens
from projects.db.executor import run_query
from projects.redaction import redact
from proxy import telemetry
from proxy.formats.neutral import UsageDefaults
from proxy.formats.openai_responses.background import CANCELLED, FAILED, ResponseState
from proxy.models import BackgroundResponse
from proxy.pipeline.background.deferral import discard
from proxy.pipeline.charges import Charge, apply_charge, charge_at, warn_of_unknown_tier

MAX_AGE = timedelta(hours=24)
"""Age at which a response that has not ended, or that cannot be fetched, is charged by an estimate."""
MISSING_AFTER = timedelta(minutes=10)
"""Age from which the gateway accepts a provider's 404 as final.

OpenAI keeps a response that is not stored for about ten minutes
(developers.openai.com/api/docs/guides/background). A server with several replicas may not know a new response
at once.
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class End:
    """The end of a background response, as its usage record describes it."""

    outcome: Outcome
    status: int
    error_code: str = ""


COMPLETED = End(Outcome.OK, 200)
EXPIRED = End(Outcome.UPSTREAM_ERROR, 504, "background_response_expired")
LOST = End(Outcome.UPSTREAM_ERROR, 502, "background_response_lost")
DELETED = End(Outcome.CLIENT_CLOSED, 499, "background_response_deleted")


async def settle_pending(project_id: int, digest: str, state: ResponseState | None) -> None:
    """Settle the background response with this digest if there is one and its state is final."""
    if state is None or state.is_pending:
        return
    for background in await run_query(BackgroundResponse.objects.of_id, project_id, digest):
        await settle_result(background, state)


async def settle_result(background: BackgroundResponse, state: ResponseState) -> None:
    """Charge a response that has ended, and write its usage record."""
    entry = decode_entry(background.entry)
    price = msgspec.json.decode(background.price, type=Price) if background.price else None
    defaults = msgspec.json.decode(background.usage_defaults, type=UsageDefaults)
    if (charged := charge_for(entry, state, price, defaults)) is None:
        entry.tokens, entry.cost_nano, entry.estimated = Tokens(), 0, False
    else:
        apply_charge(entry, charged)
    await write(background, entry, end_of(state))


async def settle_estimate(background: BackgroundResponse, end: End, reason: str) -> None:
    """Charge a response whose result cannot be known by an estimate, and write its usage record."""
    log.warning(
        "background_response_estimated",
        message="The result of a background response could not be fetched. It is charged by an estimate: its "
        "input, and the output that the request allowed.",
        request_id=decode_entry(background.entry).request_id,
        response_id=background.response_id,
        reason=reason,
    )
    await write(background, decode_entry(background.entry), end)


def end_of(state: ResponseState) -> End:
    """Return what the record of a response says about its end."""
    match state.status:
        case "cancelled":
            return End(Outcome.CLIENT_CLOSED, 499, CANCELLED)
        case "failed":
            return End(Outcome.UPSTREAM_ERROR, 502, state.error_code or FAILED)
        case _:
            return COMPLETED


def charge_for(
    estimate: UsageEntry, state: ResponseState, price: Price | None, defaults: UsageDefaults
) -> Charge | None:
    """Return the charge for a response.

    The charge is None if the response failed without output, because providers do not bill such a response.
    """
    if (usage := state.usage(defaults)) is not None:
        return charge_at(price, usage, defaults.service_tier)
    if state.status == FAILED and not state.output_tokens:
        return None
    is_whole = state.status not in (CANCELLED, FAILED)
    output = state.output_tokens or (estimate.tokens.output if is_whole else 0)
    usage = replace(state.billed_items(defaults), input=estimate.tokens.input, output=output)
    return charge_at(price, usage, defaults.service_tier, estimated=True)


async def write(background: BackgroundResponse, entry: UsageEntry, end: End) -> None:
    """Write the record, then delete the row. If the process is killed in between, nothing is lost."""
    entry.outcome, entry.status_code, entry.error = end.outcome.value, end.status, redact(end.error_code)
    entry.latency_us = (timezone.now() - entry.created_at) // timedelta(microseconds=1)
    await ledger.current().settle(ReservationGrant(entry.id, entry.reserved_nano or 0), entry)
    if await discard(background.pk):
        warn_of_unknown_tier(entry)
        report(background, entry)


def report(background: BackgroundResponse, entry: UsageEntry) -> None:
    """Count and log the end of a response."""
    telemetry.background_response_settled(entry.outcome)
    model = entry.provider_model if entry.price else telemetry.OTHER_MODEL
    telemetry.usage_recorded(model, "", entry.tokens, entry.cost_nano)
    log.info(
        "background_response_settled",
        message="A response in the background has ended and was charged.",
        request_id=entry.request_id,
        project_id=entry.project_id,
        key_id=entry.key_id,
        model=entry.requested_model,
        provider=entry.provider,
        outcome=entry.outcome,
        error=entry.error or None,
        estimated=entry.estimated,
        input_tokens=entry.tokens.prompt,
        output_tokens=entry.tokens.output,
        cost_usd=decimal_usd(entry.cost_nano),
        duration_ms=entry.latency_us // 1000,
        polls=background.polls,
    )

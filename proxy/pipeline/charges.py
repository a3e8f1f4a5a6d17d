"""Charges: the billed usage and cost of a request, even if no usage was reported or the call failed.

A provider may complete and bill a request after its client has disconnected. A client could bypass a hard
budget in this way. Therefore, if a hard budget applies and no output was received, all the output that the
budget allowed is charged. Without a hard budget, only the output that was received is charged.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from msgspec.structs import replace

from billing.ledger import UsageEntry
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.pricing import Price, Tokens
from projects.redaction import redact
from proxy.formats.codec import Meter
from proxy.formats.metering.billable import has_estimated_kind, parse_tier
from proxy.formats.metering.token_counts import estimate_tokens
from proxy.formats.neutral import Usage
from proxy.pipeline.admission import DEFAULT_MAX_OUTPUT, Admitted
from proxy.upstream.errors import UpstreamError, UpstreamTimeout
from proxy.upstream.response import UpstreamResponse

SERVICE_TIER_HEADER = "x-gemini-service-tier"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Charge:
    """A usage, and its cost at the price of the service tier that the provider used.

    `price` keeps only the fees that were charged; it is None if the price is not known. `cost_nano` is in
    nano-USD.
    """

    usage: Usage
    tokens: Tokens
    price: Price | None
    cost_nano: int
    is_estimated: bool


def charge(admitted: Admitted, usage: Usage, *, estimated: bool = False) -> Charge:
    """Return the charge for this usage. `estimated` is true if the provider did not report the usage."""
    candidate = admitted.planned.candidate
    assumed_tier = candidate.plan.facts.usage_defaults.service_tier
    return charge_at(candidate.target.price, usage, assumed_tier, estimated=estimated)


def charge_at(
    listed: Price | None, usage: Usage, assumed_tier: str = "", *, estimated: bool = False
) -> Charge:
    """Return the charge for a usage at the price of its model (`listed`; None if it is not known).

    `assumed_tier` applies if the usage has no service tier.
    """
    tokens = Tokens(
        usage.input,
        usage.cache_read,
        usage.cache_write_5m,
        usage.cache_write_1h,
        usage.output,
        usage.reasoning,
        usage.cache_write_12h,
    )
    is_estimated = estimated or usage.estimated or has_estimated_kind(usage.billable_extras)
    if listed is None:
        return Charge(usage, tokens, None, 0, is_estimated)
    price, usage = in_tier(listed, usage, assumed_tier)
    is_estimated = is_estimated or bool(price.unknown_tier)
    cost = min(price.cost(tokens, usage.billable_extras), MAX_RESERVATION_NANO)
    return Charge(usage, tokens, price.only_used_fees(usage.billable_extras), cost, is_estimated)


def apply_charge(entry: UsageEntry, charged: Charge) -> None:
    """Write a charge to a usage record."""
    entry.tokens, entry.cost_nano, entry.price = charged.tokens, charged.cost_nano, charged.price
    entry.service_tier = redact(charged.usage.service_tier)
    entry.billable_extras = charged.usage.billable_extras or None
    entry.estimated = charged.is_estimated


def apply_charges(entry: UsageEntry, charges: Sequence[Charge]) -> None:
    """Write the sum of the charges of several calls to a usage record. The last one sets price and tier."""
    last = charges[-1]
    apply_charge(entry, last)
    for earlier in charges[:-1]:
        entry.tokens += earlier.tokens
        entry.cost_nano = min(entry.cost_nano + earlier.cost_nano, MAX_RESERVATION_NANO)
        entry.billable_extras = added(entry.billable_extras, earlier.usage.billable_extras) or None
        entry.estimated = entry.estimated or earlier.is_estimated


def added(counts: Mapping[str, int] | None, more: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(counts or {}) + Counter(more))


def warn_of_unknown_tier(entry: UsageEntry) -> None:
    """Log a request in a service tier without known rates. It may cost more than the charge."""
    if entry.price is not None and entry.price.unknown_tier:
        log.warning(
            "service_tier_not_priced",
            message="The price of a service tier is not known, so the highest known rates were charged.",
            request_id=entry.request_id,
            provider=entry.provider,
            model=entry.provider_model,
            service_tier=redact(entry.price.unknown_tier),
        )


def in_tier(listed: Price, usage: Usage, assumed_tier: str) -> tuple[Price, Usage]:
    """Return the price in the tier of a request, and the usage with that tier.

    If the response states no tier, the requested tier applies, unless it is cheaper than the standard tier.
    """
    if usage.service_tier or not assumed_tier:
        return listed.for_tier(usage.service_tier), usage
    standard, assumed = listed.for_tier(), listed.for_tier(assumed_tier)
    if assumed.level < standard.level:
        return standard, usage
    return assumed, replace(usage, service_tier=assumed_tier)


def charge_reported(admitted: Admitted, usage: Usage, response: UpstreamResponse) -> Charge:
    """Return the charge for a usage, in the service tier that the response states.

    Google states the tier only in a header (ai.google.dev/gemini-api/docs/priority-inference, "Graceful
    downgrade").
    """
    tier = parse_tier(response.headers.get(SERVICE_TIER_HEADER))
    return charge(admitted, replace(usage, service_tier=tier) if tier and not usage.service_tier else usage)


def charge_failed_call(
    admitted: Admitted, error: BaseException, *, was_cancelled: bool, status: int
) -> Charge | None:
    """Return the charge for a call without a usable response; None if the provider cannot bill it.

    `was_cancelled` is true if the client or the gateway ended a call that had started. `status` is the status
    of the response, or 0 if there was none. A provider bills a response with a success status, even if the
    rest of it is lost.
    """
    may_be_billed = isinstance(error, UpstreamError) and error.may_be_billed
    timed_out = isinstance(error, UpstreamTimeout) and may_be_billed
    goes_on = admitted.planned.candidate.plan.facts.is_background and may_be_billed and not status
    if was_cancelled or timed_out or goes_on or 0 < status < 400:
        return charge(admitted, lost_usage(admitted), estimated=True)
    if not status and may_be_billed:
        return charge(admitted, Usage(input=estimated_input(admitted)), estimated=True)
    return None


def estimated_input(admitted: Admitted) -> int:
    """Return the gateway's estimate of the input tokens."""
    candidate = admitted.planned.candidate
    return candidate.target.estimated_input_tokens(candidate.plan.facts)


def lost_usage(admitted: Admitted) -> Usage:
    """Return the usage of a call whose response was lost.

    A stream that is not a background response ends with its connection, so only its input is charged.
    """
    facts = admitted.planned.candidate.plan.facts
    ends_with_connection = facts.stream and not facts.is_background
    return Usage(input=estimated_input(admitted)) if ends_with_connection else assumed_usage(admitted)


def assumed_usage(admitted: Admitted) -> Usage:
    """Return the usage that is charged for a response without visible output.

    If a hard budget applies, this is all the output that it allowed. A background response is charged for its
    output limit, because its provider completes it even if the connection fails.
    """
    facts = admitted.planned.candidate.plan.facts
    if admitted.is_budgeted:
        output = allowed_output(admitted)
    else:
        output = (facts.max_output_tokens or DEFAULT_MAX_OUTPUT) if facts.is_background else 0
    return Usage(input=estimated_input(admitted), output=output)


def allowed_output(admitted: Admitted) -> int:
    """Return the number of output tokens that the hard budget allowed."""
    facts, granted = admitted.planned.candidate.plan.facts, admitted.max_tokens_to_send
    if granted is not None:
        return granted * facts.n
    return facts.max_output_tokens or facts.fixed_max_output or 0


def charge_whole(
    admitted: Admitted, response: UpstreamResponse, body: bytes, usage: Usage | None, output_tokens: int
) -> Charge:
    """Return the charge for a non-streaming response. If it reports no usage, the usage is estimated."""
    return charge_reported(admitted, usage or unreported_usage(admitted, output_tokens, body), response)


def unreported_usage(admitted: Admitted, output_tokens: int, body: bytes) -> Usage:
    """Estimate the usage of a non-streaming response that reports none.

    The estimate is the estimated input plus the visible output, and the server tools that were called. A
    response without visible output is charged like a lost response. There are two such cases: the body is
    unreadable (`output_tokens` is then estimated from its length), or the provider has only queued the
    request.
    """
    assumed = assumed_usage(admitted)
    shows_output = 0 < output_tokens < estimate_tokens(len(body))
    output = output_tokens if shows_output else max(output_tokens, assumed.output)
    items = admitted.planned.candidate.plan.billed_items(body)
    return replace(items, input=assumed.input, output=output, estimated=True)


def streamed_usage(admitted: Admitted, meter: Meter, *, is_complete: bool) -> Usage:
    """Return the usage that a stream reported.

    If it reported none, estimate it from what the gateway received.

    A complete stream without output and without usage is charged like a lost response.
    """
    usage = meter.usage
    if usage is not None and not usage.estimated:
        return usage
    is_background = admitted.planned.candidate.plan.facts.is_background
    if (is_complete and not meter.output_tokens) or (is_background and not is_complete):
        seen = assumed_usage(admitted)
        seen = replace(seen, output=max(seen.output, meter.output_tokens))
    else:
        seen = Usage(input=estimated_input(admitted), output=meter.output_tokens)
    if usage is None:
        return replace(
            seen,
            billable_extras=dict(meter.server_tool_calls),
            service_tier=meter.service_tier,
            estimated=True,
        )
    # Servers that report usage at the end of a stream may send zeros at its start.
    return replace(
        usage, input=usage.input if usage.prompt else seen.input, output=max(usage.output, seen.output)
    )

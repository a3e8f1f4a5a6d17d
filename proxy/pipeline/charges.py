"""Charges: what a request is billed for, also if its provider reported no usage or the call failed.

A provider may complete a request whose client has gone, and bill it. A hard budget could be bypassed that
way, so it pays for all the output that it allowed, if no output was seen. Other requests are charged for what
was seen.
"""

from dataclasses import dataclass

from msgspec.structs import replace

from billing.ledger import UsageEntry
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.pricing import Price, Tokens
from projects.redaction import redact
from proxy.formats.codec import Meter
from proxy.formats.metering.billable import has_estimated_kind, normalize_tier
from proxy.formats.metering.token_counts import estimate_tokens
from proxy.formats.neutral import Usage
from proxy.pipeline.admission import DEFAULT_MAX_OUTPUT, Admitted
from proxy.upstream.errors import UpstreamError, UpstreamTimeout
from proxy.upstream.response import UpstreamResponse

SERVICE_TIER_HEADER = "x-gemini-service-tier"


@dataclass(frozen=True, slots=True)
class Charge:
    """Usage at the price of the tier that it was served in.

    `price` keeps only the fees that were charged; it is None if the price is not known. `cost_nano` is
    nano-USD.
    """

    usage: Usage
    tokens: Tokens
    price: Price | None
    cost_nano: int
    is_estimated: bool


def charge(admitted: Admitted, usage: Usage, *, estimated: bool = False) -> Charge:
    """Return the charge for this usage; `estimated` marks a usage that the provider did not report."""
    candidate = admitted.planned.candidate
    assumed_tier = candidate.plan.facts.assumed_tier
    return charge_at(candidate.target.price, usage, assumed_tier, estimated=estimated)


def charge_at(
    listed: Price | None, usage: Usage, assumed_tier: str = "", *, estimated: bool = False
) -> Charge:
    """Return the charge for a usage at the price of its model, which is None if it is not known.

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


def in_tier(listed: Price, usage: Usage, assumed_tier: str) -> tuple[Price, Usage]:
    """Return the price in the tier of a request, and the usage with that tier.

    If the response states none, the requested tier counts, unless it is cheaper than the standard one.
    """
    if usage.service_tier or not assumed_tier:
        return listed.for_tier(usage.service_tier), usage
    standard, assumed = listed.for_tier(), listed.for_tier(assumed_tier)
    if assumed.level < standard.level:
        return standard, usage
    return assumed, replace(usage, service_tier=assumed_tier)


def charge_reported(admitted: Admitted, usage: Usage, response: UpstreamResponse) -> Charge:
    """Return the charge for a usage, in the tier that the response states.

    Google states the tier that it served a request in only in a header (ai.google.dev/gemini-api/docs/
    priority-inference, "Graceful downgrade").
    """
    tier = normalize_tier(response.headers.get(SERVICE_TIER_HEADER))
    return charge(admitted, replace(usage, service_tier=tier) if tier and not usage.service_tier else usage)


def charge_failed_call(
    admitted: Admitted, error: BaseException, *, was_cancelled: bool, status: int
) -> Charge | None:
    """Return the charge for a call without a usable response; None if the provider cannot bill it.

    `was_cancelled`: the client or the gateway ended a call that had begun. `status` is that of the response,
    0 if there was none. A provider bills a response that it calls a success, even if the rest of it is lost.
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
    """Return our estimate of the input tokens."""
    candidate = admitted.planned.candidate
    return candidate.target.estimated_input_tokens(candidate.plan.facts)


def lost_usage(admitted: Admitted) -> Usage:
    """Return the usage of a call whose response was lost. A stream ends with its connection."""
    facts = admitted.planned.candidate.plan.facts
    ends_with_connection = facts.stream and not facts.is_background
    return Usage(input=estimated_input(admitted)) if ends_with_connection else assumed_usage(admitted)


def assumed_usage(admitted: Admitted) -> Usage:
    """Return the usage that a response without visible output may have.

    A hard budget pays for all the output that it allowed, and so does a request whose response the provider
    completes in the background, whatever happens to the connection.
    """
    facts = admitted.planned.candidate.plan.facts
    if admitted.is_budgeted:
        output = allowed_output(admitted)
    else:
        output = (facts.max_output_tokens or DEFAULT_MAX_OUTPUT) if facts.is_background else 0
    return Usage(input=estimated_input(admitted), output=output)


def allowed_output(admitted: Admitted) -> int:
    """Return the output tokens that a hard budget allowed."""
    facts, granted = admitted.planned.candidate.plan.facts, admitted.max_tokens_to_send
    if granted is not None:
        return granted * facts.n
    return facts.max_output_tokens or facts.fixed_max_output or 0


def unreported_usage(admitted: Admitted, output_tokens: int, body: bytes) -> Usage:
    """Estimate the usage of a non-streaming response that reports none.

    It is the input estimate plus the visible output. A response without visible output is charged like a lost
    response: it is unreadable (`output_tokens` then counts all its bytes), or the provider has only queued
    the request.
    """
    assumed = assumed_usage(admitted)
    shows_output = 0 < output_tokens < estimate_tokens(len(body))
    output = output_tokens if shows_output else max(output_tokens, assumed.output)
    return replace(assumed, output=output, estimated=True)


def streamed_usage(admitted: Admitted, meter: Meter, *, is_complete: bool) -> Usage:
    """Return the usage that a stream reported, or an estimate from what was seen of it.

    A complete stream that shows no output and reports none is charged like a lost response.
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
    # Servers that report usage at the end may begin with zeros.
    return replace(
        usage, input=usage.input if usage.prompt else seen.input, output=max(usage.output, seen.output)
    )

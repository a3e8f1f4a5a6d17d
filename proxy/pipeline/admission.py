"""Fourth stage: reserve the maximum cost of a request before it is sent to a provider."""

import asyncio
import math
from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from billing import ledger
from billing.budgets.limits import KeyDeleted, SpendPolicy, spend_policies
from billing.ledger import (
    NO_LIMITS,
    LedgerUnavailable,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
    UsageEntry,
)
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.models import Outcome
from billing.pricing import MaxCost, Price, Tokens
from keys.authentication import Principal
from proxy import errors
from proxy.formats.neutral import RequestFacts, UnsupportedFeature
from proxy.http.cancellation import outlive_cancellation
from proxy.http.responses import Headers
from proxy.pipeline.route import Planned
from proxy.routing.targets import Target

DEFAULT_MAX_OUTPUT = 4096
"""Output limit if the client sets no limit and a hard budget applies. No current model rejects this limit."""


BACKGROUND_UNDER_HARD_BUDGET = (
    "A response in the background is billed after its request has ended, so a hard budget cannot cover it. "
    "Leave out background and stream the response, or use a key without a hard budget."
)


class ReservationInterrupted(Exception):
    """The request was cancelled during the reservation. The ledger itself writes the usage record."""


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """A request that may be sent to its provider.

    `max_tokens_to_send` is the output limit of each choice that the gateway sets in the request; None if the
    gateway sets none. `abort_after_tokens` is the number of output tokens whose cost exceeds the reservation.
    At that number, the gateway aborts the stream. It is infinite without a hard budget, and if output is
    free. `is_budgeted` is true if a hard budget applies and the price is known.
    """

    planned: Planned
    reservation: ReservationGrant
    max_tokens_to_send: int | None = None
    abort_after_tokens: float = math.inf
    is_budgeted: bool = False

    def headers(self) -> Headers:
        """Return the headers of a routed request, the gateway's output limit and the rate-limit status."""
        headers = self.planned.headers()
        if self.max_tokens_to_send is not None:
            headers["x-gateway-max-tokens"] = str(self.max_tokens_to_send)
        return headers | errors.rate_limit_headers(self.reservation.rate_limit_status)

    def usage_entry(self) -> UsageEntry:
        """Return the usage record, with the shadow budget that would have denied the request."""
        entry = self.planned.usage_entry()
        entry.blocking_budget_id = self.reservation.shadow_budget_id
        return entry


async def reserve(planned: Planned) -> Admitted:
    """Reserve the maximum cost of the request, or as much of it as the budgets allow.

    Raises GatewayError, AdmissionDenied, LedgerUnavailable, DatabaseError or ReservationInterrupted.
    """
    principal = planned.routed.parsed.caller.principal
    try:
        policy = await spend_policies.get(principal.key_id)
    except KeyDeleted:
        raise errors.invalid_key() from None
    facts, target = planned.candidate.plan.facts, planned.candidate.target
    check_priceable(principal, policy, facts, target)
    limit = output_limit(policy, facts, target)
    max_cost = None if target.price is None else max_cost_of(facts, target.price)
    request = build_reserve_request(planned, policy, limit, max_cost)
    try:
        reservation = await ledger.current().reserve(request)
    except asyncio.CancelledError:
        outlive_cancellation()
        raise ReservationInterrupted from None
    if max_cost is None or not policy.has_hard_budget:
        return Admitted(planned, reservation)
    is_limited = limit is not None and reservation.amount >= request.max_nano
    granted = None if is_limited else granted_output(max_cost, reservation, facts, limit)
    cap = max_cost.max_output_for(reservation.amount, target.estimated_input_tokens(facts))
    return Admitted(planned, reservation, granted, math.inf if cap is None else cap, is_budgeted=True)


def max_cost_of(facts: RequestFacts, price: Price) -> MaxCost:
    return price.max_cost(
        facts.service_tier, facts.max_billable_extras, writes_12h_cache=facts.writes_12h_cache
    )


def output_limit(policy: SpendPolicy, facts: RequestFacts, target: Target) -> int | None:
    """Return the output tokens that the request allows; None if no limit is known."""
    if facts.max_output_tokens is not None:
        return facts.max_output_tokens
    if facts.fixed_max_output is not None and policy.has_hard_budget:
        return facts.fixed_max_output
    return target.default_max_tokens(facts)


def granted_output(
    max_cost: MaxCost, reservation: ReservationGrant, facts: RequestFacts, limit: int | None
) -> int | None:
    """Return the output limit of each choice that the reserved amount covers; None if output is free."""
    affordable = max_cost.max_output_for(reservation.amount, facts.max_input_tokens)
    if affordable is None:
        return None
    each = affordable // facts.n
    return max(min(each, DEFAULT_MAX_OUTPUT) if limit is None else each, facts.min_output_tokens)


def check_priceable(principal: Principal, policy: SpendPolicy, facts: RequestFacts, target: Target) -> None:
    """Check that the key may send this request, and that a hard budget can bound its cost.

    If the key is limited to some models, no other model may generate a part of the response. If a hard budget
    applies, the maximum cost of the request must be known, and the request must not cost anything after it
    has ended. Raises GatewayError or UnsupportedFeature.
    """
    if principal.models and facts.other_model_fields:
        raise errors.may_use_other_models(facts.other_model_fields[0])
    if facts.is_background and policy.has_hard_budget:
        raise UnsupportedFeature(BACKGROUND_UNDER_HARD_BUDGET, "background")
    if not policy.has_hard_budget or settings.ENV.gateway_unpriced != "closed":
        return
    if target.price is None:
        raise errors.unpriced_model(facts.model)
    if (
        fields := facts.other_model_fields
        + facts.unbounded_cost_fields
        + unpriced_tier_fields(facts, target.price)
    ):
        raise errors.unbounded_cost(fields[0])
    if tools := target.price.unpriced_tools(facts.max_billable_extras):
        raise errors.unpriced_tool(tools[0])


def unpriced_tier_fields(facts: RequestFacts, price: Price) -> tuple[str, ...]:
    """Return the fields that ask for a service tier for which the price has no rates."""
    return tuple(field for field, tier in facts.requested_tiers if price.tier_rates(tier) is None)


def build_reserve_request(
    planned: Planned, policy: SpendPolicy, output_limit: int | None, max_cost: MaxCost | None
) -> ReserveRequest:
    """Return the reserve request for the ledger. If the model has no price, the reserved amount is 0."""
    caller, facts = planned.routed.parsed.caller, planned.candidate.plan.facts
    principal = caller.principal
    min_nano = max_nano = 0
    if max_cost is not None:
        max_nano = max_cost.upper_bound(
            facts.max_input_tokens, DEFAULT_MAX_OUTPUT * facts.n if output_limit is None else output_limit
        )
        can_be_lowered = facts.fixed_max_output is None and settings.ENV.gateway_max_tokens == "clamp"
        is_negotiable = output_limit is None or can_be_lowered
        least = facts.n * facts.min_output_tokens
        least = least if output_limit is None else min(least, output_limit)
        min_nano = max_cost.upper_bound(facts.max_input_tokens, least) if is_negotiable else max_nano
    # A fixed maximum is far above the length of a usual response, so the limit on tokens per minute ignores
    # it.
    counted_output = (output_limit or 0) if facts.fixed_max_output is None else 0
    tokens = planned.candidate.target.estimated_input_tokens(facts) + counted_output
    min_nano, max_nano = min(min_nano, MAX_RESERVATION_NANO), min(max_nano, MAX_RESERVATION_NANO)
    return ReserveRequest(
        caller.received.id,
        principal.project_id,
        principal.key_id,
        principal.timezone,
        min_nano,
        max_nano,
        policy.budgets,
        policy.rate_limits,
        tokens,
        worst_case_entry(planned, max_nano),
    )


def worst_case_entry(planned: Planned, cost_nano: int) -> UsageEntry:
    """Return the record that is written if this process dies. It charges the maximum cost of the request."""
    facts, entry = planned.candidate.plan.facts, planned.usage_entry()
    entry.tokens = Tokens(input=facts.max_input_tokens, output=facts.max_output_tokens or 0)
    entry.cost_nano, entry.estimated = cost_nano, True
    entry.outcome, entry.status_code = Outcome.UNAVAILABLE.value, 500
    entry.error = "the gateway process ended"
    return entry


async def rate_limit_status(principal: Principal) -> RateLimitStatus:
    """Return the rate-limit status of a key without a reservation.

    If it cannot be looked up, return a status without limits.
    """
    try:
        policy = await spend_policies.get(principal.key_id)
        return await ledger.current().rate_limit_status(principal.project_id, policy.rate_limits)
    except (LedgerUnavailable, DatabaseError, KeyDeleted):
        return NO_LIMITS

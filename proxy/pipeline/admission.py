"""What a request must be able to pay before it is sent: the most that it can cost, or as much of that as the budgets allow."""

import math
from copy import copy
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
from billing.pricing.bundled import SOURCE
from keys.authentication import Principal
from proxy import errors
from proxy.formats.neutral import RequestFacts
from proxy.routing.resolve import Target

DEFAULT_MAX_OUTPUT = 4096
"""Output tokens that a client who sets no limit gets where a hard budget applies: no current model refuses this limit."""

PREMIUM_TIERS = ("fast", "priority")
"""Service tiers that cost more than the standard one."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """Leave to call the provider. `max_tokens_to_send`: the limit to put into the request. `abort_after_tokens`: at how many output tokens
    its cost reaches what is held, and the answer is cut; infinite if output is free, None if no hard budget applies.
    """

    reservation: ReservationGrant
    max_tokens_to_send: int | None = None
    abort_after_tokens: float | None = None


async def admit(
    usage_entry: UsageEntry, principal: Principal, policy: SpendPolicy, facts: RequestFacts, target: Target
) -> Admitted:
    """Holds the most that the request can cost; raises GatewayError, or what the ledger refuses with."""
    check_priceable(principal, policy, facts, target)
    limit = target.default_max_tokens(facts) if facts.max_output_tokens is None else facts.max_output_tokens
    ceiling = (
        None if target.price is None else target.price.max_cost(facts.service_tier, facts.max_billable_extras)
    )
    demand = build_reserve_request(usage_entry, principal, facts, target, policy, limit, ceiling)
    reservation = await ledger.current().reserve(demand)
    if ceiling is None or not policy.has_hard_budget:
        return Admitted(reservation)
    is_limited = limit is not None and reservation.amount >= demand.max_nano
    granted = None if is_limited else granted_output(ceiling, reservation, facts, limit)
    cap = ceiling.max_output_for(reservation.amount, target.estimated_input_tokens(facts))
    return Admitted(reservation, granted, math.inf if cap is None else cap)


def granted_output(
    ceiling: MaxCost, reservation: ReservationGrant, call: RequestFacts, limit: int | None
) -> int | None:
    """Return the output limit of each choice that the reservation pays for; None if output is free."""
    affordable = ceiling.max_output_for(reservation.amount, call.max_input_tokens)
    if affordable is None:
        return None
    each = affordable // call.n
    return max(min(each, DEFAULT_MAX_OUTPUT) if limit is None else each, 1)


def check_priceable(principal: Principal, policy: SpendPolicy, facts: RequestFacts, target: Target) -> None:
    """Raises GatewayError where other models than the key's may answer, or a hard budget applies and what the request may cost is not
    known.
    """
    if principal.models and facts.other_model_fields:
        raise errors.may_use_other_models(facts.other_model_fields[0])
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


def unpriced_tier_fields(facts: RequestFacts, price: Price) -> tuple[str, ...]:
    """The field of a dearer tier that the bundled price does not know; any other price holds in all tiers."""
    if facts.service_tier.partition("_")[0] not in PREMIUM_TIERS or price.source != SOURCE:
        return ()
    return () if any(name in PREMIUM_TIERS for name, _ in price.service_tiers) else ("service_tier",)


def build_reserve_request(
    usage_entry: UsageEntry,
    principal: Principal,
    facts: RequestFacts,
    target: Target,
    policy: SpendPolicy,
    output_limit: int | None,
    max_cost: MaxCost | None,
) -> ReserveRequest:
    at_least = at_most = 0
    if max_cost is not None:
        at_most = max_cost.upper_bound(
            facts.max_input_tokens, DEFAULT_MAX_OUTPUT * facts.n if output_limit is None else output_limit
        )
        negotiable = output_limit is None or settings.ENV.gateway_max_tokens == "clamp"
        at_least = max_cost.upper_bound(facts.max_input_tokens, facts.n) if negotiable else at_most
    tokens = target.estimated_input_tokens(facts) + (output_limit or 0)
    at_least, at_most = min(at_least, MAX_RESERVATION_NANO), min(at_most, MAX_RESERVATION_NANO)
    draft = worst_case_entry(usage_entry, facts, at_most)
    return ReserveRequest(
        usage_entry.id,
        principal.project_id,
        principal.key_id,
        principal.timezone,
        at_least,
        at_most,
        policy.budgets,
        policy.rate_limits,
        tokens,
        draft,
    )


def worst_case_entry(usage_entry: UsageEntry, facts: RequestFacts, cost: int) -> UsageEntry:
    """The record that stands if this process dies: the bound counts as spent."""
    draft = copy(usage_entry)
    draft.tokens, draft.cost_nano, draft.estimated = (
        Tokens(input=facts.max_input_tokens, output=facts.max_output_tokens or 0),
        cost,
        True,
    )
    draft.outcome, draft.status_code, draft.error = (
        Outcome.UNAVAILABLE.value,
        500,
        "the gateway process ended",
    )
    return draft


async def rate_limit_status(principal: Principal) -> RateLimitStatus:
    """How far the limits of a key are used, for an answer that nothing was reserved for; none are told while that cannot be known."""
    try:
        terms = await spend_policies.get(principal.key_id)
        return await ledger.current().rate_limit_status(principal.project_id, terms.rate_limits)
    except (LedgerUnavailable, DatabaseError, KeyDeleted):
        return NO_LIMITS

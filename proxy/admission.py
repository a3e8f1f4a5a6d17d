"""What a request must be able to pay before it is sent: the most that it can cost, or as much of that as the budgets allow."""

import math
from copy import copy
from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from billing import ledger
from billing.ledger import UNLIMITED, Demand, Entry, LedgerUnavailable, Reservation, Standing
from billing.ledger.terms import MOST_NANO
from billing.models import Outcome
from billing.prices import Ceiling, Price, Tokens
from billing.prices.catalogue import SOURCE
from billing.terms import KeyGone, KeyTerms, terms_of_key
from keys.authentication import Grant
from proxy import errors
from proxy.formats.neutral import Call
from proxy.routing import Target

OUTPUT_CAP = 4096
"""Output tokens that a client who sets no limit gets where a hard budget applies: no current model refuses this limit."""

DEARER = ("fast", "priority")
"""Service tiers that cost more than the standard one."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to call the provider. `granted_output`: the limit to put into the request. `output_cap`: at how many output tokens
    its cost reaches what is held, and the answer is cut; infinite if output is free, None if no hard budget applies."""

    reservation: Reservation
    granted_output: int | None = None
    output_cap: float | None = None


async def admit(entry: Entry, grant: Grant, terms: KeyTerms, call: Call, target: Target) -> Admission:
    """Holds the most that the request can cost; raises GatewayError, or what the ledger refuses with."""
    check(grant, terms, call, target)
    limit = target.default_output(call) if call.output_limit is None else call.output_limit
    ceiling = None if target.price is None else target.price.ceiling(call.service_tier, call.tool_limits)
    demand = demand_of(entry, grant, call, target, terms, limit, ceiling)
    reservation = await ledger.current().reserve(demand)
    if ceiling is None or not terms.has_hard_budget:
        return Admission(reservation)
    is_limited = limit is not None and reservation.amount >= demand.at_most
    granted = None if is_limited else granted_output(ceiling, reservation, call, limit)
    cap = ceiling.affordable_output(reservation.amount, target.input_estimate(call))
    return Admission(reservation, granted, math.inf if cap is None else cap)


def granted_output(ceiling: Ceiling, reservation: Reservation, call: Call, limit: int | None) -> int | None:
    """Return the output limit of each choice that the reservation pays for; None if output is free."""
    affordable = ceiling.affordable_output(reservation.amount, call.input_bound)
    if affordable is None:
        return None
    each = affordable // call.choices
    return max(min(each, OUTPUT_CAP) if limit is None else each, 1)


def check(grant: Grant, terms: KeyTerms, call: Call, target: Target) -> None:
    """Raises GatewayError where other models than the key's may answer, or a hard budget applies and what the request may cost is not
    known."""
    if grant.models and call.of_other_models:
        raise errors.other_models(call.of_other_models[0])
    if not terms.has_hard_budget or settings.ENV.gateway_unpriced != "closed":
        return
    if target.price is None:
        raise errors.unpriced(call.model)
    if fields := call.of_other_models + call.unbounded + unpriced_tier(call, target.price):
        raise errors.unbounded(fields[0])


def unpriced_tier(call: Call, price: Price) -> tuple[str, ...]:
    """The field of a dearer tier that the bundled price does not know; any other price holds in all tiers."""
    if call.service_tier.partition("_")[0] not in DEARER or price.source != SOURCE:
        return ()
    return () if any(name in DEARER for name, _ in price.services) else ("service_tier",)


def demand_of(
    entry: Entry, grant: Grant, call: Call, target: Target, terms: KeyTerms, limit: int | None, ceiling: Ceiling | None
) -> Demand:
    at_least = at_most = 0
    if ceiling is not None:
        at_most = ceiling.bound(call.input_bound, OUTPUT_CAP * call.choices if limit is None else limit)
        negotiable = limit is None or settings.ENV.gateway_max_tokens == "clamp"
        at_least = ceiling.bound(call.input_bound, call.choices) if negotiable else at_most
    tokens = target.input_estimate(call) + (limit or 0)
    at_least, at_most = min(at_least, MOST_NANO), min(at_most, MOST_NANO)
    draft = estimate(entry, call, at_most)
    return Demand(entry.id, grant.project_id, grant.key_id, grant.zone, at_least, at_most, terms.budgets, terms.limits, tokens, draft)


def estimate(entry: Entry, call: Call, cost: int) -> Entry:
    """The record that stands if this process dies: the bound counts as spent."""
    draft = copy(entry)
    draft.tokens, draft.cost_nano, draft.estimated = Tokens(input=call.input_bound, output=call.output_limit or 0), cost, True
    draft.outcome, draft.status_code, draft.error = Outcome.UNAVAILABLE.value, 500, "the gateway process ended"
    return draft


async def standing_of(grant: Grant) -> Standing:
    """How far the limits of a key are used, for an answer that nothing was reserved for; none are told while that cannot be known."""
    try:
        terms = await terms_of_key.get(grant.key_id)
        return await ledger.current().standing(grant.project_id, terms.limits)
    except (LedgerUnavailable, DatabaseError, KeyGone):
        return UNLIMITED

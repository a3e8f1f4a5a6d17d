"""The stage `reserve`: reserve the maximum cost of a request before it is sent to a provider."""

import asyncio
import math
from dataclasses import dataclass, replace

from django.conf import settings
from django.db import Error as DatabaseError

from billing import ledger
from billing.budgets.limits import KeyDeleted, SpendPolicy, anonymous_rate_limits, spend_policies
from billing.ledger import (
    NO_LIMITS,
    LedgerUnavailable,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
    UsageEntry,
)
from billing.ledger.interface import MAX_RESERVATION_NANO, RateLimit
from billing.models import Outcome
from billing.pricing import MaxCost, Price, Tokens
from keys.authentication import Principal
from proxy import errors
from proxy.errors import GatewayError
from proxy.formats.neutral import RequestFacts, UnsupportedFeature
from proxy.http.cancellation import outlive_cancellation
from proxy.http.responses import Headers
from proxy.pipeline.authenticate import Authenticated
from proxy.pipeline.route import Planned
from proxy.routing.targets import Candidate, Target

DEFAULT_MAX_OUTPUT = 4096
"""Output limit if the client sets no limit and a hard budget applies. No current model rejects this limit."""


BACKGROUND_UNDER_HARD_BUDGET = (
    "A response in the background is billed after its request has ended, so a hard budget cannot cover it. "
    "Leave out background and stream the response, or use a key without a hard budget."
)


class ReservationInterrupted(Exception):
    """The request was cancelled during the reservation. The ledger itself writes the usage record."""


@dataclass(frozen=True, slots=True)
class CostBound:
    """The bounds of the cost of calling a candidate, in nano-USD.

    `limit` is the output limit, or None if none is known. `max_cost` is None if the price is not known. The
    candidate can run with `min_nano`, and costs at most `max_nano`. `tokens` is an estimate of what it uses.
    """

    limit: int | None
    max_cost: MaxCost | None
    min_nano: int
    max_nano: int
    tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Admitted:
    """A request that may be sent to its first candidate.

    `max_tokens_to_send` is the output limit of each choice that the gateway sets in the request; None if the
    gateway sets none. `abort_after_tokens` is the number of output tokens whose cost exceeds the rest of the
    reservation. At that number, the gateway aborts the stream. It is infinite without a hard budget, and if
    output is free. `is_budgeted` is true if a hard budget applies and the price is known. `number` is the
    number of the call that may be made now.
    """

    planned: Planned
    policy: SpendPolicy
    reservation: ReservationGrant
    max_tokens_to_send: int | None = None
    abort_after_tokens: float = math.inf
    is_budgeted: bool = False
    number: int = 1

    def headers(self) -> Headers:
        """Return the headers of a planned request, the gateway's output limit and the rate-limit status."""
        headers = {**self.planned.headers(), "x-gateway-attempts": str(self.number)}
        if self.max_tokens_to_send is not None:
            headers["x-gateway-max-tokens"] = str(self.max_tokens_to_send)
        return headers | errors.rate_limit_headers(self.reservation.rate_limit_status)

    def usage_entry(self) -> UsageEntry:
        """Return the usage record, with the shadow budget that would have denied the request."""
        entry = self.planned.usage_entry()
        entry.blocking_budget_id = self.reservation.shadow_budget_id
        return entry

    async def cover(self, candidate: Candidate, spent_nano: int) -> "Admitted":
        """Return this permission with a reservation that also covers a call of the candidate, if possible.

        `spent_nano` is the cost of the calls before it. Only a hard budget needs this.
        """
        missing = cost_bound(candidate, self.policy).max_nano + spent_nano - self.reservation.amount
        if not self.policy.has_hard_budget or missing <= 0:
            return self
        extended = await ledger.current().extend(self.reservation, missing, self.policy.budgets)
        return self if extended is None else replace(self, reservation=extended)

    def for_call(self, number: int, candidates: tuple[Candidate, ...], spent_nano: int) -> "Admitted | None":
        """Return the permission for the call with this number, which calls the first of `candidates`.

        `spent_nano` is the cost of the calls before it. The result is None if a hard budget applies, and what
        is left of the reservation does not cover the call.
        """
        planned, left_nano = (
            replace(self.planned, candidates=candidates),
            self.reservation.amount - spent_nano,
        )
        bound = cost_bound(planned.candidate, self.policy)
        if self.policy.has_hard_budget and left_nano < bound.min_nano:
            return None
        return permit(planned, self.policy, self.reservation, bound, left_nano, number)


async def reserve(planned: Planned) -> Admitted:
    """Reserve the maximum cost of the request, or as much of it as the budgets allow.

    Candidates that the reservation does not cover are left out. Raises GatewayError, AdmissionDenied,
    LedgerUnavailable, DatabaseError or ReservationInterrupted.
    """
    principal = planned.routed.parsed.caller.principal
    policy = await spend_policy_of(principal)
    candidates = priceable_candidates(planned.candidates, principal, policy)
    bounds = [cost_bound(candidate, policy) for candidate in candidates]
    request = build_reserve_request(planned, policy, candidates, bounds)
    reservation = await reserve_in_ledger(request)
    first = next((index for index, bound in enumerate(bounds) if bound.min_nano <= reservation.amount), 0)
    if len(candidates) - first != len(planned.candidates):
        planned = replace(planned, candidates=candidates[first:])
    return permit(planned, policy, reservation, bounds[first], reservation.amount)


def priceable_candidates(
    candidates: tuple[Candidate, ...], principal: Principal, policy: SpendPolicy
) -> tuple[Candidate, ...]:
    """Return the candidates that the key may use, and whose cost a hard budget can bound.

    Raises GatewayError or UnsupportedFeature if there is none.
    """
    kept, failures = [], []
    for candidate in candidates:
        try:
            check_priceable(principal, policy, candidate.plan.facts, candidate.target)
            kept.append(candidate)
        except (GatewayError, UnsupportedFeature) as error:
            failures.append(error)
    if not kept:
        raise failures[0]
    return tuple(kept)


def permit(
    planned: Planned,
    policy: SpendPolicy,
    reservation: ReservationGrant,
    bound: CostBound,
    left_nano: int,
    number: int = 1,
) -> Admitted:
    """Return the permission to call the first candidate with the rest of the reservation."""
    if bound.max_cost is None or not policy.has_hard_budget:
        return Admitted(planned, policy, reservation, number=number)
    facts, target = planned.candidate.plan.facts, planned.candidate.target
    is_limited = bound.limit is not None and left_nano >= bound.max_nano
    granted = None if is_limited else granted_output(bound.max_cost, left_nano, facts, bound.limit)
    cap = bound.max_cost.max_output_for(left_nano, target.estimated_input_tokens(facts))
    abort_after = math.inf if cap is None else cap
    return Admitted(planned, policy, reservation, granted, abort_after, is_budgeted=True, number=number)


async def admit_cached(planned: Planned) -> Admitted:
    """Count a request whose response is in the cache against the rate limits. It reserves nothing.

    Raises the same exceptions as `reserve`, but never BudgetExceeded.
    """
    caller = planned.routed.parsed.caller
    principal, policy = caller.principal, await spend_policy_of(caller.principal)
    request = ReserveRequest(
        caller.received.id,
        principal.project_id,
        principal.key_id,
        principal.timezone,
        min_nano=0,
        max_nano=0,
        budgets=(),
        rate_limits=rate_limits_for(caller, policy),
        tokens=0,
        estimate=unused_entry(planned),
    )
    return Admitted(planned, policy, await reserve_in_ledger(request), number=0)


def unused_entry(planned: Planned) -> UsageEntry:
    """Return the record that is written if this process dies before it sends a cached response."""
    entry = worst_case_entry(planned, planned.candidate, 0)
    entry.tokens = Tokens()
    return entry


async def spend_policy_of(principal: Principal) -> SpendPolicy:
    """Return the spend policy of a key. Raises GatewayError if the key was deleted, and DatabaseError."""
    try:
        return await spend_policies.get(principal.key_id)
    except KeyDeleted:
        raise errors.invalid_key() from None


async def reserve_in_ledger(request: ReserveRequest) -> ReservationGrant:
    """Make a reservation.

    Raises AdmissionDenied, LedgerUnavailable, DatabaseError or ReservationInterrupted.
    """
    try:
        return await ledger.current().reserve(request)
    except asyncio.CancelledError:
        outlive_cancellation()
        raise ReservationInterrupted from None


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


def granted_output(max_cost: MaxCost, left_nano: int, facts: RequestFacts, limit: int | None) -> int | None:
    """Return the output limit of each choice that `left_nano` covers; None if output is free."""
    affordable = max_cost.max_output_for(left_nano, facts.max_input_tokens)
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


def cost_bound(candidate: Candidate, policy: SpendPolicy) -> CostBound:
    """Return the bounds of the cost of a candidate. If it has no price, they are 0."""
    facts, target = candidate.plan.facts, candidate.target
    limit = output_limit(policy, facts, target)
    # The limit on tokens per minute ignores a fixed maximum, because usual responses are far shorter.
    counted_output = (limit or 0) if facts.fixed_max_output is None else 0
    tokens = target.estimated_input_tokens(facts) + counted_output
    if target.price is None:
        return CostBound(limit, None, 0, 0, tokens)
    max_cost = max_cost_of(facts, target.price)
    max_nano = max_cost.upper_bound(
        facts.max_input_tokens, DEFAULT_MAX_OUTPUT * facts.n if limit is None else limit
    )
    can_be_lowered = facts.fixed_max_output is None and settings.ENV.gateway_max_tokens == "clamp"
    is_negotiable = limit is None or can_be_lowered
    least = facts.n * facts.min_output_tokens
    least = least if limit is None else min(least, limit)
    min_nano = max_cost.upper_bound(facts.max_input_tokens, least) if is_negotiable else max_nano
    return CostBound(
        limit, max_cost, min(min_nano, MAX_RESERVATION_NANO), min(max_nano, MAX_RESERVATION_NANO), tokens
    )


def build_reserve_request(
    planned: Planned, policy: SpendPolicy, candidates: tuple[Candidate, ...], bounds: list[CostBound]
) -> ReserveRequest:
    """Return the reserve request for the ledger, which covers any one of the candidates."""
    caller, principal = planned.routed.parsed.caller, planned.routed.parsed.caller.principal
    max_nano, most_expensive = max((bound.max_nano, -index) for index, bound in enumerate(bounds))
    return ReserveRequest(
        caller.received.id,
        principal.project_id,
        principal.key_id,
        principal.timezone,
        min(bound.min_nano for bound in bounds),
        max_nano,
        policy.budgets,
        rate_limits_for(caller, policy),
        max(bound.tokens for bound in bounds),
        worst_case_entry(planned, candidates[-most_expensive], max_nano),
    )


def worst_case_entry(planned: Planned, candidate: Candidate, cost_nano: int) -> UsageEntry:
    """Return the record that is written if this process dies. It charges the maximum cost of the request."""
    facts, entry = candidate.plan.facts, planned.routed.usage_entry(candidate.target)
    entry.tokens = Tokens(input=facts.max_input_tokens, output=facts.max_output_tokens or 0)
    entry.cost_nano, entry.estimated = cost_nano, True
    entry.outcome, entry.status_code = Outcome.UNAVAILABLE.value, 500
    entry.error = "the gateway process ended"
    return entry


def rate_limits_for(caller: Authenticated, policy: SpendPolicy) -> tuple[RateLimit, ...]:
    """Return the rate limits of a caller. Those without a key are also limited by their client network."""
    if not caller.is_anonymous:
        return policy.rate_limits
    return (*policy.rate_limits, *anonymous_rate_limits(caller.client_network))


async def rate_limit_status(caller: Authenticated) -> RateLimitStatus:
    """Return the rate-limit status of a caller without a reservation.

    If it cannot be looked up, return a status without limits.
    """
    try:
        policy = await spend_policies.get(caller.principal.key_id)
        limits = rate_limits_for(caller, policy)
        return await ledger.current().rate_limit_status(caller.principal.project_id, limits)
    except (LedgerUnavailable, DatabaseError, KeyDeleted):
        return NO_LIMITS

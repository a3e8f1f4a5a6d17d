"""Cache policy: whether a request uses the response cache, and which responses may be stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from proxy.cache.controls import NO_FIELDS, read_header
from proxy.formats import openai_responses
from proxy.formats.codec import ClientRequest
from proxy.formats.metering.billable import MODALITIES
from proxy.formats.neutral import FinishReason, RequestFacts, Response, ToolCall
from proxy.pipeline.parse import Parsed
from proxy.pipeline.route import Planned

HEADER = b"cache-control"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""The largest body whose key is computed. A larger one would block other requests for too long."""
STATEFUL_FIELDS = ("mcp_servers", "conversation", "previous_response_id", "container")
"""Fields that let a provider add content or call servers: equal requests can have different results."""
STORABLE_FINISH_REASONS: tuple[FinishReason, ...] = ("stop", "length")


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The use of the cache by one request. Times are in seconds.

    `reads` is false if the client wants a new response. A stored response older than `max_age_s` is not used.
    """

    reads: bool
    max_age_s: float
    ttl_s: int


def is_requested(parsed: Parsed[ClientRequest]) -> bool:
    """Return whether the request, its project or its operation asks for the cache."""
    controls, caller = parsed.cache_controls, parsed.caller
    if controls.enabled is not None:
        return controls.enabled
    is_default = caller.received.operation.cached_by_default or caller.principal.caches_responses
    return is_default or controls.ttl_s is not None


def is_declined(parsed: Parsed[ClientRequest]) -> bool:
    """Return whether the body switches the cache off."""
    return parsed.cache_controls is not NO_FIELDS and parsed.cache_controls.enabled is False


def cache_use(planned: Planned) -> CacheUse | None:
    """Return how a request that asks for the cache uses it, or None if it cannot use it."""
    parsed = planned.routed.parsed
    header = read_header(parsed.caller.received.request.header(HEADER))
    if header.no_store or not is_cacheable(planned):
        return None
    ttl_s = parsed.cache_controls.ttl_s or parsed.caller.principal.cache_ttl_s
    return CacheUse(not header.no_cache, header.max_age_s, ttl_s)


def is_cacheable(planned: Planned) -> bool:
    """Return whether a stored response can replace a call of the provider for this request."""
    parsed, facts = planned.routed.parsed, planned.candidate.plan.facts
    request, operation = parsed.client_request, parsed.caller.received.operation
    return (
        operation.cacheable
        and len(request.body) <= MAX_REQUEST_BYTES
        and not has_side_effects(facts)
        and not is_stateful(request.fields)
        and not is_stored_by_provider(planned)
        and not request.references()
    )


def has_side_effects(facts: RequestFacts) -> bool:
    """Return whether the provider does more than generate one response, for example call server tools."""
    runs_tools = any(kind not in MODALITIES for kind in facts.max_billable_extras)
    return bool(runs_tools or facts.other_model_fields or facts.unbounded_cost_fields or facts.is_background)


def may_be_stored(response: Response, *, is_limited: bool) -> bool:
    """Return whether every choice of a response is complete and calls no tool.

    A client runs the tools that a response calls, so a second client would repeat their side effects. If the
    gateway has set the output limit (`is_limited`), a response that ends at the limit is not what the client
    asked for.
    """
    reasons = {choice.finish_reason for choice in response.choices}
    return (
        bool(reasons)
        and reasons.issubset(STORABLE_FINISH_REASONS)
        and not (is_limited and "length" in reasons)
        and not any(isinstance(part, ToolCall) for choice in response.choices for part in choice.parts)
    )


def is_stateful(fields: Mapping[str, Any]) -> bool:
    return any(fields.get(name) for name in STATEFUL_FIELDS)


def is_stored_by_provider(planned: Planned) -> bool:
    """Return whether the provider stores the response, so that later requests can continue it.

    The Responses API stores a response unless `store` is false
    (platform.openai.com/docs/api-reference/responses/create). After a conversion, providers store nothing.
    """
    parsed, account = planned.routed.parsed, planned.candidate.target.account
    format, store = parsed.caller.received.operation.format, parsed.client_request.fields.get("store")
    if format == openai_responses.FORMAT:
        return store is not False and account.format_for(format) == format
    return bool(store)

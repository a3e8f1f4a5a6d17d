"""Prometheus metrics. No label contains the name of a project or of a key."""

from functools import lru_cache

from prometheus_client import Counter, Gauge, Histogram

from billing.models import Outcome
from billing.pricing import Tokens

OTHER_MODEL = "other"
"""The label that all models without a label of their own share."""
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

requests = Counter(
    "proxy_requests", "Requests that the gateway has responded to.", ["format", "model", "provider", "status"]
)
durations = Histogram(
    "proxy_request_duration_seconds",
    "From the first byte of a request to the last byte of its response.",
    ["format", "model", "provider"],
    buckets=BUCKETS,
)
errors = Counter("proxy_errors", "Requests that failed.", ["format", "model", "provider", "error_type"])
active = Gauge(
    "proxy_active_requests",
    "Requests in flight. The provider is empty until a target is chosen.",
    ["format", "provider"],
)
outcomes = Counter("gateway_outcomes", "Every request received, by how it ended.", ["outcome"])
upstream_failures = Counter(
    "gateway_upstream_failures",
    "Calls to providers that failed before the client got anything, by the class of the failure.",
    ["provider", "failure"],
)
background_responses = Counter(
    "gateway_background_responses",
    "Responses in the background that were charged, by how they ended.",
    ["outcome"],
)
prompt_log_dropped = Counter(
    "gateway_prompt_log_dropped",
    "Requests whose prompt and response were not logged, although they should be.",
)


cache_lookups = Counter(
    "gateway_cache_lookups", "Requests that asked for the response cache, by result.", ["result"]
)
cache_savings = Counter("gateway_cache_saved_usd", "Cost in USD that the response cache has saved.")
tokens_used = Counter(
    "gateway_tokens",
    "Tokens of the usage records, by bucket. The buckets are disjoint.",
    ["model", "provider", "bucket"],
)
costs = Counter("gateway_cost_usd", "Cost of the usage records in USD.", ["model", "provider"])
first_tokens = Histogram(
    "gateway_time_to_first_token_seconds",
    "From the first byte of a request to the first token of its response.",
    ["format", "model", "provider"],
    buckets=BUCKETS,
)
admission_denied = Counter(
    "gateway_admission_denied",
    "Requests that the ledger denied, by the limit: budget, requests, tokens or concurrent.",
    ["limit"],
)
TOKEN_BUCKETS = tuple(name for name in Tokens.__struct_fields__ if name != "reasoning")
"""The disjoint buckets. Reasoning tokens are part of the output tokens."""


@lru_cache(maxsize=4096)
def labelled_metrics(
    api_family: str, model: str, provider: str, status: int, outcome: str, error_type: str
) -> tuple[Counter, Histogram, Counter | None, Counter]:
    failed = errors.labels(api_family, model, provider, error_type) if status >= 400 else None
    return (
        requests.labels(api_family, model, provider, status),
        durations.labels(api_family, model, provider),
        failed,
        outcomes.labels(outcome),
    )


@lru_cache(maxsize=256)
def in_flight(api_family: str, provider: str) -> Gauge:
    return active.labels(api_family, provider)


def count_rejected(format: str, status: int, outcome: Outcome = Outcome.INVALID_REQUEST) -> None:
    """Count a request that was rejected before a view got it.

    `format` is the API family of its route. Without a route, it is "http" or "websocket", which limits the
    number of labels.
    """
    request_count, _, error_count, outcome_count = labelled_metrics(
        format, OTHER_MODEL, "", status, outcome.value, "server_error" if status >= 500 else "invalid_request"
    )
    request_count.inc()
    outcome_count.inc()
    if error_count is not None:
        error_count.inc()


def request_started(api_family: str) -> None:
    """Count a request that has arrived."""
    in_flight(api_family, "").inc()


def request_routed(api_family: str, provider: str) -> None:
    """Count a request in flight at the provider of its first target."""
    in_flight(api_family, "").dec()
    in_flight(api_family, provider).inc()


def request_finished(
    api_family: str,
    model: str,
    provider: str,
    outcome: str,
    status: int,
    error_type: str,
    seconds: float,
    routed_provider: str,
) -> None:
    """Count a request that has ended.

    `seconds` is its duration. `routed_provider` is the argument of `request_routed`, or empty if the request
    was not routed.
    """
    request_count, duration_histogram, error_count, outcome_count = labelled_metrics(
        api_family, model, provider, status, outcome, error_type if status >= 400 else ""
    )
    request_count.inc()
    duration_histogram.observe(seconds)
    outcome_count.inc()
    if error_count is not None:
        error_count.inc()
    in_flight(api_family, routed_provider).dec()


@lru_cache(maxsize=4096)
def usage_metrics(model: str, provider: str) -> tuple[Counter, dict[str, Counter]]:
    """Return the counter of the cost, and the counters of the tokens by bucket."""
    buckets = {bucket: tokens_used.labels(model, provider, bucket) for bucket in TOKEN_BUCKETS}
    return costs.labels(model, provider), buckets


@lru_cache(maxsize=4096)
def first_token_histogram(api_family: str, model: str, provider: str) -> Histogram:
    return first_tokens.labels(api_family, model, provider)


def usage_recorded(model: str, provider: str, tokens: Tokens, cost_nano: int) -> None:
    """Count the tokens and the cost (nano-USD) of a usage record."""
    cost_counter, token_counters = usage_metrics(model, provider)
    cost_counter.inc(cost_nano / 1e9)
    for bucket, counter in token_counters.items():
        if (count := getattr(tokens, bucket)) > 0:
            counter.inc(count)


def first_token_received(api_family: str, model: str, provider: str, seconds: float) -> None:
    """Count the time to the first token of a streamed response."""
    first_token_histogram(api_family, model, provider).observe(seconds)


def request_denied(limit: str) -> None:
    """Count a request that the ledger denied. `limit` is budget, requests, tokens or concurrent."""
    admission_denied.labels(limit).inc()


def upstream_call_failed(provider: str, failure: str) -> None:
    """Count a failed call. It may be followed by a retry or a fallback."""
    upstream_failures.labels(provider, failure).inc()


def background_response_settled(outcome: str) -> None:
    """Count a background response that has ended.

    The request that created it was counted when that request ended.
    """
    background_responses.labels(outcome).inc()


def cache_looked_up(result: str) -> None:
    """Count a request that asked for the cache; `result` is hit, miss or bypass."""
    cache_lookups.labels(result).inc()


def cache_saved(nano: int) -> None:
    """Count the cost in nano-USD that a hit has saved."""
    cache_savings.inc(nano / 1e9)

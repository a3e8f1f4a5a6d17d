"""Prometheus metrics. No label has the name of a project or a key."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from django.core.cache import cache
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from billing.ledger.audit.checks import LAST_AUDIT_KEY
from billing.models import Outcome

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

requests = Counter(
    "proxy_requests", "Requests that were answered.", ["format", "model", "provider", "status"]
)
durations = Histogram(
    "proxy_request_duration_seconds",
    "From the first byte in to the last byte out.",
    ["format", "model", "provider"],
    buckets=BUCKETS,
)
errors = Counter("proxy_errors", "Requests that failed.", ["format", "model", "provider", "error_type"])
active = Gauge("proxy_active_requests", "Requests in flight.", ["format"])
outcomes = Counter("gateway_outcomes", "Every request received, by how it ended.", ["outcome"])


class LastAudit(Collector):
    """Reports the last audit of the ledger; without an audit it reports nothing, and not zero mismatches."""

    def collect(self) -> Iterator[Metric]:
        """Yield the number of mismatches and the time of the last audit."""
        with suppress(RedisError):
            if last := cache.get(LAST_AUDIT_KEY):
                found, ended_at = last
                yield GaugeMetricFamily(
                    "gateway_ledger_differences", "What the last audit of the ledger found.", found
                )
                yield GaugeMetricFamily(
                    "gateway_ledger_audit_timestamp_seconds", "When it ended; one runs every hour.", ended_at
                )

    def describe(self) -> Iterator[Metric]:
        """Return no descriptions, so that registration does not query the cache."""
        return iter(())


REGISTRY.register(LastAudit())


def render() -> bytes:
    """Return all metrics as text. This queries the cache, so it must not run on the event loop."""
    return generate_latest(REGISTRY)


@lru_cache(maxsize=4096)
def labelled_metrics(
    api_family: str, model: str, provider: str, status: int, outcome: str
) -> tuple[Counter, Histogram, Counter | None, Counter]:
    failed = errors.labels(api_family, model, provider, outcome) if status >= 400 else None
    return (
        requests.labels(api_family, model, provider, status),
        durations.labels(api_family, model, provider),
        failed,
        outcomes.labels(outcome),
    )


@lru_cache(maxsize=16)
def in_flight(api_family: str) -> Gauge:
    return active.labels(api_family)


def count_refused(protocol: str, status: int) -> None:
    """Count a request that reached no route.

    `protocol` is "http" or "websocket", so that there are few labels.
    """
    answered, _, failed, outcome_count = labelled_metrics(
        protocol, "other", "", status, Outcome.INVALID_REQUEST.value
    )
    answered.inc()
    outcome_count.inc()
    if failed is not None:
        failed.inc()


def request_started(api_family: str) -> None:
    """Count a request that has arrived."""
    in_flight(api_family).inc()


def request_finished(
    api_family: str, model: str, provider: str, outcome: str, status: int, seconds: float
) -> None:
    """Count a request that has ended; `seconds` is its duration."""
    answered, duration, failed, outcome_count = labelled_metrics(api_family, model, provider, status, outcome)
    answered.inc()
    duration.observe(seconds)
    outcome_count.inc()
    if failed is not None:
        failed.inc()
    in_flight(api_family).dec()

"""Prometheus metrics. No label names a project or a key."""

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
active = Gauge("proxy_active_requests", "Requests under way.", ["format"])
outcomes = Counter("gateway_outcomes", "Every request received, by how it ended.", ["outcome"])


class LastAudit(Collector):
    """Absent until there was one: no difference found is not the same as nobody having looked."""

    def collect(self) -> Iterator[Metric]:
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
        """Nothing: to register it asks no cache."""
        return iter(())


REGISTRY.register(LastAudit())


def render() -> bytes:
    """Asks the cache, which may be in Redis: not for the event loop."""
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


def refuse(protocol: str, status: int) -> None:
    """Count one request that reached no route: `protocol` is "http" or "websocket", so that labels stay few."""
    answered, _, failed, ended = labelled_metrics(
        protocol, "other", "", status, Outcome.INVALID_REQUEST.value
    )
    answered.inc()
    ended.inc()
    if failed is not None:
        failed.inc()


def request_started(api_family: str) -> None:
    """One request that has come."""
    in_flight(api_family).inc()


def request_finished(
    api_family: str, model: str, provider: str, outcome: str, status: int, seconds: float
) -> None:
    """One request that has ended."""
    answered, duration, failed, ended = labelled_metrics(api_family, model, provider, status, outcome)
    answered.inc()
    duration.observe(seconds)
    ended.inc()
    if failed is not None:
        failed.inc()
    in_flight(api_family).dec()

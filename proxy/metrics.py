"""Prometheus metrics. No label names a project or a key."""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache

from django.core.cache import cache
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from billing.ledger.audit import LAST_AUDIT
from billing.models import Outcome

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

requests = Counter("proxy_requests", "Requests that were answered.", ["format", "model", "provider", "status"])
durations = Histogram(
    "proxy_request_duration_seconds", "From the first byte in to the last byte out.", ["format", "model", "provider"], buckets=BUCKETS
)
errors = Counter("proxy_errors", "Requests that failed.", ["format", "model", "provider", "error_type"])
active = Gauge("proxy_active_requests", "Requests under way.", ["format"])
outcomes = Counter("gateway_outcomes", "Every request received, by how it ended.", ["outcome"])


class LastAudit(Collector):
    """Absent until there was one: no difference found is not the same as nobody having looked."""

    def collect(self) -> Iterator[Metric]:
        with suppress(RedisError):
            if last := cache.get(LAST_AUDIT):
                found, ended_at = last
                yield GaugeMetricFamily("gateway_ledger_differences", "What the last audit of the ledger found.", found)
                yield GaugeMetricFamily("gateway_ledger_audit_timestamp_seconds", "When it ended; one runs every hour.", ended_at)

    def describe(self) -> Iterator[Metric]:
        """Nothing: to register it asks no cache."""
        return iter(())


REGISTRY.register(LastAudit())


def exposition() -> bytes:
    """Asks the cache, which may be in Redis: not for the event loop."""
    return generate_latest(REGISTRY)


@lru_cache(maxsize=4096)
def series(format: str, model: str, provider: str, status: int, outcome: str) -> tuple[Counter, Histogram, Counter | None, Counter]:
    failed = errors.labels(format, model, provider, outcome) if status >= 400 else None
    return requests.labels(format, model, provider, status), durations.labels(format, model, provider), failed, outcomes.labels(outcome)


@lru_cache(maxsize=16)
def under_way(format: str) -> Gauge:
    return active.labels(format)


def refuse(protocol: str, status: int) -> None:
    """Count one request that reached no route: `protocol` is "http" or "websocket", so that labels stay few."""
    answered, _, failed, ended = series(protocol, "other", "", status, Outcome.INVALID.value)
    answered.inc()
    ended.inc()
    if failed is not None:
        failed.inc()


def begin(format: str) -> None:
    """One request that has come."""
    under_way(format).inc()


def count(format: str, model: str, provider: str, outcome: str, status: int, seconds: float) -> None:
    """One request that has ended."""
    answered, duration, failed, ended = series(format, model, provider, status, outcome)
    answered.inc()
    duration.observe(seconds)
    ended.inc()
    if failed is not None:
        failed.inc()
    under_way(format).dec()

"""Metrics in Prometheus' text format."""

import asyncio
import hmac
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

from django.conf import settings
from django.core.cache import cache
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import RedisError

from billing import ledger
from billing.ledger import LedgerUnavailable
from billing.ledger.audit.checks import LAST_AUDIT_KEY
from billing.ledger.reader import current_reader
from proxy.endpoints.views import keyless
from proxy.errors import ERROR_TYPE_HEADER
from proxy.http.load_shedder import ShedReason, load_shedder
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response
from proxy.operations import METRICS
from proxy.routing.health.target_health import health


class LastAudit(Collector):
    """Reports the last audit of the ledger.

    If there has been no audit, it reports nothing, instead of zero mismatches.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the number of mismatches and the time of the last audit."""
        with suppress(RedisError):
            if last := cache.get(LAST_AUDIT_KEY):
                found, ended_at = last
                yield GaugeMetricFamily(
                    "gateway_ledger_differences", "Mismatches that the last audit of the ledger found.", found
                )
                yield GaugeMetricFamily(
                    "gateway_ledger_audit_timestamp_seconds",
                    "When the last audit ended. An audit runs every hour.",
                    ended_at,
                )

    def describe(self) -> Iterator[Metric]:
        """Return no descriptions. Otherwise the registration would query the cache."""
        return iter(())


class LedgerBacklog(Collector):
    """Reports the records that SQL does not have yet.

    If Redis does not answer, it reports only those in the memory of this process.
    """

    def collect(self) -> Iterator[Metric]:
        """Yield the records in memory, the undrained records, and the age of the oldest of those."""
        yield GaugeMetricFamily(
            "gateway_unsent_records",
            "Records in the memory of this process that neither Redis nor SQL has.",
            ledger.unsent_records(),
        )
        with suppress(LedgerUnavailable):
            lag = current_reader().lag()
            yield GaugeMetricFamily(
                "gateway_undrained_records",
                "Records in Redis that are not in SQL yet. All processes report the same number.",
                lag.records,
            )
            yield GaugeMetricFamily(
                "gateway_undrained_oldest_seconds", "Age of the oldest undrained record.", lag.oldest_s
            )

    def describe(self) -> Iterator[Metric]:
        """Return no descriptions, like LastAudit."""
        return iter(())


class Load(Collector):
    """Reports the load of this process. The values are read only when they are collected."""

    def collect(self) -> Iterator[Metric]:
        """Yield the requests in flight, the limit, the lag of the event loop, and the shed requests."""
        yield GaugeMetricFamily(
            "gateway_concurrent_requests", "Requests with a key that are in flight.", load_shedder.total
        )
        yield GaugeMetricFamily(
            "gateway_concurrent_requests_limit", "GATEWAY_MAX_CONCURRENT_REQUESTS.", load_shedder.limit
        )
        yield GaugeMetricFamily(
            "gateway_event_loop_lag_seconds",
            "CPU time for which the event loop was late, measured a hundred times per second.",
            load_shedder.lag_s,
        )
        shed = CounterMetricFamily(
            "gateway_shed_requests", "Requests that were shed with a 503, by reason.", labels=["reason"]
        )
        for reason in ShedReason:
            shed.add_metric([reason.value], load_shedder.shed_counts[reason])
        yield shed


class TargetStates(Collector):
    """Reports the breakers and credentials of this process, without names of projects or credentials."""

    def collect(self) -> Iterator[Metric]:
        """Yield the numbers of breakers by state, and of credentials that providers reject."""
        now, targets = health.clock(), list(health)
        breakers = GaugeMetricFamily(
            "gateway_circuit_breakers", "Targets by the state of their breaker.", labels=["provider", "state"]
        )
        states = Counter((target.provider, target.breaker.state(now).value) for target in targets)
        for (provider, state), count in states.items():
            breakers.add_metric([provider, state], count)
        rejected = GaugeMetricFamily(
            "gateway_rejected_credentials", "Credentials that their provider rejects.", labels=["provider"]
        )
        unusable = {target.key: target.provider for target in targets if not target.credential.is_usable}
        for provider, count in Counter(unusable.values()).items():
            rejected.add_metric([provider], count)
        yield breakers
        yield rejected

    def describe(self) -> Iterator[Metric]:
        """Return no descriptions, like LastAudit."""
        return iter(())


REGISTRY.register(LastAudit())
REGISTRY.register(LedgerBacklog())
REGISTRY.register(TargetStates())
REGISTRY.register(Load())


def render() -> bytes:
    """Render all metrics as text.

    This queries the cache, so it must not run on the event loop.
    """
    return generate_latest(REGISTRY)


@keyless(METRICS)
async def metrics_view(request: GatewayRequest) -> Response:
    """Return all metrics. If GATEWAY_METRICS_TOKEN is set, the client must send it."""
    token = settings.ENV.gateway_metrics_token
    given = request.header(b"authorization").encode()
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        headers = {"www-authenticate": "Bearer", "content-type": "text/plain", ERROR_TYPE_HEADER: "auth"}
        return Response(401, headers, b"A token is needed.\n")
    headers = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
    return Response(200, headers, await asyncio.to_thread(render))

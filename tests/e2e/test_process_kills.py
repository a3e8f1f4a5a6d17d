"""Gateway processes are killed at every named point while a provider counts what it bills: nothing is lost, nothing is doubled."""

import random
import time
from contextlib import suppress

import pytest
import redis

from billing.ledger.redis.client.scripts import LEASE_KEY
from tests.support.cluster import Cluster
from tests.support.environment import ON_SERVERS
from tests.support.gateway_server import GatewayProcess

pytestmark = pytest.mark.databases

SQL_POINTS = (
    "reserve.before",
    "commit.before",
    "commit.after",
    "reserve.after",
    "settle.before",
    "settle.after",
)
REDIS_POINTS = (
    "reserve.before", "reserve.after", "settle.before", "settle.after",
    "drain.before_insert", "drain.before_commit", "drain.after_commit", "drain.after_trim",
)  # fmt: skip
POINTS = REDIS_POINTS if ON_SERVERS else SQL_POINTS
SHORT_POINTS = (
    ("reserve.after", "settle.after", "drain.before_commit", "drain.after_commit")
    if ON_SERVERS
    else SQL_POINTS
)
LONG_KILLS = 200
REQUESTS = 24
BUDGETS = ("--daily-budget", "1000", "--monthly-budget", "1000")


def kill(gateways: Cluster, token: str, n: int, point: str, nth: int) -> None:
    """Starts one process anew so that it dies at the point, puts load on all of them, and starts it once more so that it lives."""
    doomed, *others = (
        gateways.processes[n % len(gateways.processes) :] + gateways.processes[: n % len(gateways.processes)]
    )
    doomed.stop()
    doomed.environment["GATEWAY_FAILPOINT"] = f"{point}:{nth}"
    with suppress(AssertionError):
        # It may pass the point while it starts: that counts.
        doomed.start()
    if point.startswith("drain."):
        stop_draining_in(doomed, others)
    deadline = time.monotonic() + 30
    while doomed.is_running:
        assert time.monotonic() < deadline, f"{point} was not passed {nth} times"
        gateways.burst(token, REQUESTS)
    assert doomed.process is not None and doomed.process.returncode == -9, doomed.output.read_text()
    del doomed.environment["GATEWAY_FAILPOINT"]
    doomed.start()


def stop_draining_in(one: GatewayProcess, others: list[GatewayProcess]) -> None:
    """One process drains at a time: the others give that up when they end, but for one that was killed."""
    for other in others:
        other.stop()
    with redis.Redis.from_url(one.environment["REDIS_URL"]) as store:
        store.delete(LEASE_KEY)
        deadline = time.monotonic() + 10
        while one.is_running and not store.exists(LEASE_KEY):
            assert time.monotonic() < deadline, "nobody drains"
            time.sleep(0.05)
    for other in others:
        other.start()


def test_ledger_matches_provider_after_a_kill_at_any_failpoint(small_cluster: Cluster) -> None:
    token = small_cluster.new_key(*BUDGETS)
    for n, point in enumerate(SHORT_POINTS):
        kill(small_cluster, token, n, point, nth=n + 1)
    small_cluster.assert_consistent()


@pytest.mark.long
def test_ledger_matches_provider_after_two_hundred_kills(small_cluster: Cluster) -> None:
    token = small_cluster.new_key(*BUDGETS)
    for n in range(LONG_KILLS):
        kill(small_cluster, token, n, POINTS[n % len(POINTS)], random.randint(1, 15))
    small_cluster.assert_consistent()

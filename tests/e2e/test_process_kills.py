"""Kills at every failpoint, while a provider counts what it bills: no record is lost or doubled."""

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


def kill_at_failpoint(gateways: Cluster, token: str, n: int, point: str, nth: int) -> None:
    """Restart one process with a failpoint, send requests to all until it is killed, and start it again."""
    victim, *others = (
        gateways.processes[n % len(gateways.processes) :] + gateways.processes[: n % len(gateways.processes)]
    )
    victim.stop()
    victim.environment["GATEWAY_FAILPOINT"] = f"{point}:{nth}"
    with suppress(AssertionError):
        # It may reach the failpoint during its start, which counts.
        victim.start()
    if point.startswith("drain."):
        stop_draining_in(victim, others)
    deadline = time.monotonic() + 30
    while victim.is_running:
        assert time.monotonic() < deadline, f"{point} was not reached {nth} times"
        gateways.burst(token, REQUESTS)
    assert victim.process is not None and victim.process.returncode == -9, victim.output.read_text()
    del victim.environment["GATEWAY_FAILPOINT"]
    victim.start()


def stop_draining_in(one: GatewayProcess, others: list[GatewayProcess]) -> None:
    """Make this process the one that drains records.

    One process drains at a time. A process that stops releases the lease; a killed one does not.
    """
    for other in others:
        other.stop()
    with redis.Redis.from_url(one.environment["REDIS_URL"]) as store:
        store.delete(LEASE_KEY)
        deadline = time.monotonic() + 10
        while one.is_running and not store.exists(LEASE_KEY):
            assert time.monotonic() < deadline, "no process drains"
            time.sleep(0.05)
    for other in others:
        other.start()


def test_ledger_matches_provider_after_a_kill_at_any_failpoint(small_cluster: Cluster) -> None:
    token = small_cluster.new_key(*BUDGETS)
    for n, point in enumerate(SHORT_POINTS):
        kill_at_failpoint(small_cluster, token, n, point, nth=n + 1)
    small_cluster.assert_consistent()


@pytest.mark.long
def test_ledger_matches_provider_after_two_hundred_kills(small_cluster: Cluster) -> None:
    token = small_cluster.new_key(*BUDGETS)
    for n in range(LONG_KILLS):
        kill_at_failpoint(small_cluster, token, n, POINTS[n % len(POINTS)], random.randint(1, 15))
    small_cluster.assert_consistent()

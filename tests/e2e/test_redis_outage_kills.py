"""A process is killed while Redis is down and PostgreSQL is up: no request loses its record."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
import redis

from billing.ledger.audit.checks import CHANGE_PROPAGATION
from tests.support.cluster import BILLED, Cluster, cluster, price
from tests.support.databases import Server, postgresql_server, valkey_server
from tests.support.environment import ON_SERVERS

pytestmark = [
    pytest.mark.databases,
    pytest.mark.skipif(not ON_SERVERS, reason="the embedded mode has no servers"),
]

WARM = 3
REQUESTS = 60
BATCH_WAIT_S = 0.5
"""Long enough for two batches of records, in which those of keys without a budget are written."""
RECORD_TIMEOUT_S = 15
LARGE, SMALL = ("--daily-budget", "1000"), ("--daily-budget", "0.0005")


@contextmanager
def site(data: Path, **variables: str) -> Iterator[tuple[Cluster, Server]]:
    """Run one gateway process on its own servers."""
    with postgresql_server() as database, valkey_server(append_only=True) as store:
        addresses = {"DATABASE_URL": database.url, "REDIS_URL": store.url, **variables}
        with cluster(data, addresses, processes=1) as gateways:
            yield gateways, store


def kill_while_redis_is_down(
    gateways: Cluster, store: Server, send_requests: Callable[[], None], *, empty: bool
) -> None:
    """Kill the process during an outage of Redis, and start both again.

    With `empty`, Redis returns without its data.
    """
    process = gateways.processes[0]
    store.kill()
    if empty:
        # Records that only Redis had are written to PostgreSQL within 0.25 s (docs/ledger.md).
        time.sleep(BATCH_WAIT_S)
    send_requests()
    process.stop(signal.SIGKILL)
    store.start()
    if empty:
        with redis.Redis.from_url(store.url) as client:
            client.flushall()
    process.start()


def assert_recorded(gateways: Cluster, requests: int) -> None:
    deadline = time.monotonic() + RECORD_TIMEOUT_S
    while len(gateways.records()) < requests:
        assert time.monotonic() < deadline, f"{len(gateways.records())} of {requests} requests are recorded"
        time.sleep(0.2)
    gateways.assert_consistent()
    assert len(gateways.records()) == requests
    assert gateways.query("SELECT count(*) FROM billing_unsentrecord") == [(0,)]


CASES = set(product([LARGE, ()], ["closed", "open"], [False, True]))
SHORT_CASES = {(LARGE, "open", False), (LARGE, "closed", True), ((), "closed", False)}


@pytest.mark.parametrize(("budget", "policy", "empty"), sorted(SHORT_CASES))
def test_kill_during_a_redis_outage_loses_no_record(
    tmp_path: Path, budget: tuple[str, ...], policy: str, empty: bool
) -> None:
    assert_no_record_lost(tmp_path, budget, policy, empty=empty)


@pytest.mark.long
@pytest.mark.parametrize(("budget", "policy", "empty"), sorted(CASES - SHORT_CASES))
def test_kill_during_a_redis_outage_loses_no_record_in_any_case(
    tmp_path: Path, budget: tuple[str, ...], policy: str, empty: bool
) -> None:
    assert_no_record_lost(tmp_path, budget, policy, empty=empty)


def assert_no_record_lost(tmp_path: Path, budget: tuple[str, ...], policy: str, *, empty: bool) -> None:
    served = policy == "open" or not budget
    with site(tmp_path / "data", GATEWAY_REDIS_DOWN_BUDGETS=policy) as (gateways, store):
        token = gateways.new_key(*budget)
        assert gateways.burst(token, WARM) == {200: WARM}

        def send_requests() -> None:
            assert gateways.burst(token, REQUESTS) == {200 if served else 503: REQUESTS}
            if not budget:
                time.sleep(BATCH_WAIT_S)

        kill_while_redis_is_down(gateways, store, send_requests, empty=empty)
        assert_recorded(gateways, WARM + REQUESTS)
        spent = (WARM + REQUESTS * served) * price().cost(BILLED)
        assert sum(cost for _, _, cost in gateways.records()) == spent
        assert gateways.burst(token, 1) == {200: 1}
        assert_recorded(gateways, WARM + REQUESTS + 1)


def test_overspend_admitted_during_a_redis_outage_is_not_a_mismatch(
    tmp_path: Path,
) -> None:
    with site(tmp_path / "data", GATEWAY_REDIS_DOWN_BUDGETS="open") as (gateways, store):
        token = gateways.new_key(*SMALL)
        # The audit ignores requests from before the last change of a limit.
        time.sleep(CHANGE_PROPAGATION.total_seconds() + 0.5)
        assert gateways.burst(token, WARM) == {200: WARM}

        def send_requests() -> None:
            assert gateways.burst(token, REQUESTS) == {200: REQUESTS}

        kill_while_redis_is_down(gateways, store, send_requests, empty=False)
        assert gateways.burst(token, 1) == {429: 1}
        assert_recorded(gateways, WARM + REQUESTS + 1)
        audit = gateways.audit()
        assert audit.returncode == 0 and "was admitted while Redis was down" in audit.stdout, audit.stdout

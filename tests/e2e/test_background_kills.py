"""Background responses are charged once, even if their process dies, and by several processes."""

import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL
from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster, cluster, own_servers
from tests.support.environment import ON_SERVERS
from tests.support.gateway_server import GatewayProcess
from tests.support.responses_provider import ResponsesProvider

pytestmark = pytest.mark.databases

CREATE: dict[str, Any] = {"model": "gpt-4o-mini", "input": "Hi", "background": True}
COST = 1000 * 150 + 200 * 600
RECORDS = "SELECT outcome, status_code, cost_nano, estimated, corrects FROM billing_usagerecord"
RUNNING = "SELECT id FROM proxy_backgroundresponse"
CHARGED_S = 60
"""On Redis, the lease of a killed process expires first, and its reservations are settled after 45 s."""


@pytest.fixture
def provider() -> ResponsesProvider:
    return ResponsesProvider()


@pytest.fixture
def gateways(tmp_path: Path, provider: ResponsesProvider) -> Iterator[Cluster]:
    with (
        own_servers() as servers,
        cluster(tmp_path / "data", servers, processes=2 if ON_SERVERS else 1) as gateways,
    ):
        gateways.upstream.handler = provider.handle
        yield gateways


def create(gateway: GatewayProcess, token: str, **fields: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{gateway.url}/v1/responses", json=CREATE | fields, headers=headers, timeout=20)


def kill(gateway: GatewayProcess) -> None:
    if gateway.is_running:
        gateway.stop(SIGKILL)


def wait_for_cost(gateways: Cluster, cost: int) -> list[tuple[Any, ...]]:
    """Wait until the records have this cost in total, and the response is settled; return the records."""
    deadline = time.monotonic() + CHARGED_S
    records = gateways.query(RECORDS)
    while sum(record[2] for record in records) != cost or gateways.query(RUNNING):
        assert time.monotonic() < deadline, records
        time.sleep(0.2)
        records = gateways.query(RECORDS)
    assert " 0 differences" in gateways.audit().stdout
    return records


@pytest.mark.parametrize("stream", [False, True])
def test_a_killed_process_loses_no_response(
    gateways: Cluster, provider: ResponsesProvider, stream: bool
) -> None:
    token = gateways.new_key()
    first, *_ = gateways.processes
    headers = {"authorization": f"Bearer {token}"}
    if stream:
        with httpx.stream(
            "POST", f"{first.url}/v1/responses", json=CREATE | {"stream": True}, headers=headers
        ) as streamed:
            next(streamed.iter_lines())
            for process in gateways.processes:
                kill(process)
    else:
        assert create(first, token).json()["status"] == "queued"
        for process in gateways.processes:
            kill(process)
    provider.finish("resp_1")
    for process in gateways.processes:
        process.start()
    records = wait_for_cost(gateways, COST)
    assert [record for record in records if record[4] is None and not record[3]] or stream
    retrieved = httpx.get(f"{first.url}/v1/responses/resp_1", headers=headers)
    assert retrieved.json()["status"] == "completed", "the id is stored as well"


def test_a_kill_before_the_deferral_is_corrected(gateways: Cluster, provider: ResponsesProvider) -> None:
    """The row is stored and the reservation is open at the kill.

    The reservation becomes an estimate, which the poller corrects.
    """
    token = gateways.new_key()
    first, *_ = gateways.processes
    first.stop()
    first.environment["GATEWAY_FAILPOINT"] = "defer.before"
    first.start()
    with pytest.raises(httpx.TransportError):
        create(first, token)
    assert first.process is not None and first.process.wait(10) == -9
    del first.environment["GATEWAY_FAILPOINT"]
    first.start()
    time.sleep(1)
    provider.finish("resp_1")
    wait_for_cost(gateways, COST)


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")
def test_one_of_several_processes_polls_and_charges_once(
    gateways: Cluster, provider: ResponsesProvider
) -> None:
    token = gateways.new_key()
    for process in gateways.processes * 5:
        assert create(process, token).status_code == 200
    time.sleep(8)
    # After 1, 3 and 7 seconds.
    assert len(provider.polls) == 10 and max(provider.polls.values()) <= 4
    for id in list(provider.responses):
        provider.finish(id)
    records = wait_for_cost(gateways, 10 * COST)
    assert len(records) == 10 and {(outcome, estimated) for outcome, _, _, estimated, _ in records} == {
        ("ok", False)
    }


@pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")
def test_another_process_takes_over_the_polls(gateways: Cluster, provider: ResponsesProvider) -> None:
    token = gateways.new_key()
    first, second = gateways.processes
    for process in gateways.processes:
        create(process, token)
    kill(first)
    for id in list(provider.responses):
        provider.finish(id)
    assert len(wait_for_cost(gateways, 2 * COST)) == 2
    assert second.is_running

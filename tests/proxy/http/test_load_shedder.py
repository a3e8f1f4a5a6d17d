"""Load shedding: at the limit of all requests, near it of projects above their fair share."""

import asyncio
from contextlib import suppress

import pytest
from structlog.testing import capture_logs

from proxy.http import load_shedder as module
from proxy.http.load_shedder import MIN_IN_FLIGHT_FOR_LAG, LoadShedder, ShedReason, monitor_load


def with_in_flight(limit: int, **projects: int) -> LoadShedder:
    shedder = LoadShedder(limit)
    for project, count in projects.items():
        assert all(shedder.enter(project) for _ in range(count))
    return shedder


def admitted(shedder: LoadShedder, project: str) -> int:
    """Return how many requests of a project are admitted in a row."""
    count = 0
    while shedder.enter(project):
        count += 1
    return count


def test_one_project_leaves_room_for_others() -> None:
    shedder = LoadShedder(100)
    assert admitted(shedder, "busy") == 80
    assert admitted(shedder, "quiet") == 20
    assert shedder.total == 100
    assert shedder.shed_counts == {ShedReason.FAIR_SHARE: 1, ShedReason.LIMIT: 1}


def test_a_project_above_its_share_is_shed_first() -> None:
    shedder = with_in_flight(100, busy=70, quiet=10)
    assert not shedder.enter("busy")
    assert shedder.enter("quiet")


def test_shares_become_equal_as_requests_end() -> None:
    shedder = with_in_flight(100, busy=80)
    for _ in range(100):
        shedder.leave("busy")
        shedder.enter("busy")
        shedder.enter("quiet")
    assert shedder.in_flight == {"busy": 40, "quiet": 40}


def test_ended_requests_are_forgotten() -> None:
    shedder = with_in_flight(10, busy=8)
    for _ in range(8):
        shedder.leave("busy")
    assert not shedder.total and not shedder.in_flight and not shedder.is_loaded


@pytest.mark.parametrize("total", [MIN_IN_FLIGHT_FOR_LAG - 1, MIN_IN_FLIGHT_FOR_LAG])
def test_a_lag_sheds_only_if_many_requests_are_in_flight(total: int) -> None:
    shedder = with_in_flight(2000, busy=total)
    shedder.is_cpu_overloaded = True
    assert shedder.enter("busy") == (total < MIN_IN_FLIGHT_FOR_LAG)
    assert shedder.enter("quiet")


def test_a_lag_counts_if_it_lasts_or_was_recent() -> None:
    shedder = LoadShedder(10)
    states = []
    for now, lag_s in ((0, 0.0), (0.5, 1), (0.9, 1), (1.1, 1), (1.2, 0), (1.3, 1), (9, 0), (9.1, 1)):
        shedder.measure(lag_s, now)
        states.append(shedder.is_cpu_overloaded)
    assert states == [False, False, False, True, False, True, False, False]


async def test_the_monitor_measures_the_lag_and_logs_shed_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAG_INTERVAL_S", 0.001)
    shedder = with_in_flight(1, busy=1)
    shedder.lag_s = 1
    assert [shedder.enter("quiet") for _ in range(3)] == [False] * 3
    with capture_logs() as lines:
        monitor = asyncio.create_task(monitor_load(shedder))
        await asyncio.sleep(0.05)
        monitor.cancel()
        with suppress(asyncio.CancelledError):
            await monitor
    assert shedder.lag_s < 1
    assert [(line["event"], line["count"]) for line in lines] == [("requests_shed", 3)]

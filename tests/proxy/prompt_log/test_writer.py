"""The writer of the log: limits of its queue, outages of the database, and the stop of the process."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError

from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project
from proxy import telemetry
from proxy.models import PromptLogEntry, PromptLogMode, PromptLogUser
from proxy.prompt_log import writer as writer_module
from proxy.prompt_log.capture import Capture
from proxy.prompt_log.policy import PromptLogPolicy
from proxy.prompt_log.redaction import build_redactor
from proxy.prompt_log.writer import PromptLogWriter

pytestmark = pytest.mark.django_db(transaction=True)
POLICY = PromptLogPolicy(PromptLogMode.PREVIEW, build_redactor(frozenset(), ()))


def capture_of(project_id: int, text: str = "Hi", size: int = 10) -> Capture:
    return Capture(uuid7(), project_id, POLICY, {"messages": [{"content": text}]}, size, ("u1", "u2"))


def dropped() -> float:
    value: float = telemetry.prompt_log_dropped._value.get()
    return value


async def stored() -> int:
    return await PromptLogEntry.objects.acount()


async def test_stop_writes_what_is_queued(project: Project) -> None:
    log = PromptLogWriter()
    for _ in range(250):
        log.submit(capture_of(project.pk))
    await log.stop()
    assert await stored() == 250 and await PromptLogUser.objects.acount() == 500
    assert log.queued_bytes == 0


async def test_a_full_queue_drops_and_counts_entries(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "MAX_QUEUED", 3)
    monkeypatch.setattr(writer_module, "MAX_QUEUED_BYTES", 100)
    log, before = PromptLogWriter(), dropped()
    for size in (10, 80, 20, 10, 1):
        log.submit(capture_of(project.pk, size=size))
    assert len(log.queue) == 3 and dropped() - before == 2
    await log.stop()
    assert await stored() == 3


@pytest.fixture
def failing_saves(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that makes the next saves fail as in an outage."""
    save = writer_module.save
    left = [0]

    def save_or_fail(rows: Any) -> None:
        if left[0]:
            left[0] -= 1
            raise OperationalError("down")
        save(rows)

    monkeypatch.setattr(writer_module, "save", save_or_fail)
    return lambda count: left.__setitem__(0, count)


async def test_entries_wait_while_the_database_is_down(
    project: Project, failing_saves: Callable[[int], None]
) -> None:
    log = PromptLogWriter()
    log.submit(capture_of(project.pk, "first"))
    failing_saves(2)  # `with_reconnect` tries twice.
    assert not await log.flush()
    log.submit(capture_of(project.pk, "second"))
    assert await log.flush() and await stored() == 2


async def test_entries_that_cannot_be_written_at_the_stop_are_counted(
    project: Project, failing_saves: Callable[[int], None]
) -> None:
    log, before = PromptLogWriter(), dropped()
    log.submit(capture_of(project.pk))
    failing_saves(100)
    await log.stop()
    assert await stored() == 0 and dropped() - before == 1


async def test_a_flush_that_is_cancelled_loses_nothing(project: Project) -> None:
    log = PromptLogWriter()
    for _ in range(150):
        log.submit(capture_of(project.pk))
    flush = asyncio.create_task(log.flush())
    await asyncio.sleep(0)
    flush.cancel()
    await asyncio.gather(flush, return_exceptions=True)
    await log.stop()
    assert await stored() == 150 and await PromptLogUser.objects.acount() == 300


async def test_entries_of_a_deleted_project_do_not_prevent_those_of_others(
    project: Project, key: ApiKey
) -> None:
    log, before = PromptLogWriter(), dropped()
    log.submit(capture_of(project.pk + 1000))
    log.submit(capture_of(project.pk))
    await log.stop()
    assert await stored() == 1 and dropped() - before == 1

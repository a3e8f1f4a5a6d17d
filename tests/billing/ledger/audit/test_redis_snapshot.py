"""The audit finds mismatches between Redis and the database."""

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
from unittest.mock import patch
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command

from billing.ledger import BudgetExceeded, LedgerUnavailable, ReserveRequest
from billing.ledger.audit import run
from billing.ledger.audit.run import run_audit
from billing.ledger.interface import BudgetLimit
from billing.ledger.redis import OutagePolicy, RedisLedger, queries
from billing.ledger.redis.client.blocking_client import blocking_client
from billing.ledger.redis.client.circuit_breaker import FAILURE_THRESHOLD
from billing.ledger.redis.client.keys import PROJECTS_KEY, heartbeat_key, key_prefix
from billing.ledger.redis.record_store import UnsentRow
from billing.models import Budget, Period, UsageRecord
from billing.tasks import audit_ledger, roll_up_usage
from keys.models import ApiKey
from projects.models import User
from tests.billing.ledger.audit.test_audit import mismatch_texts_async
from tests.support.environment import ON_SERVERS
from tests.support.factories import key_in_other_project
from tests.support.ledger_harness import (
    NOON,
    PRICE,
    LedgerHarness,
    budget,
    eventually,
    ledger_harness_on,
    reserve,
    reserve_request,
    settle,
)

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]
needs_redis = pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")


@pytest.fixture
async def in_redis(transactional_db: None) -> AsyncIterator[LedgerHarness]:
    harness = ledger_harness_on("redis")
    yield harness
    await harness.close()


@needs_redis
async def test_dead_process_reservation_of_unknown_age_is_found(in_redis: LedgerHarness, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    request = reserve_request(key, await budget(key, 10))
    await ledger.reserve(request)
    await in_redis.wipe()
    await ledger.background_tasks.tick()
    (text,) = await sync_to_async(blocking_client().hvals)(f"{key_prefix(key.project_id)}open")
    assert text.split(b" ")[4] == b"0"
    assert await mismatch_texts_async() == []
    await in_redis.kill(ledger)
    assert not await sync_to_async(blocking_client().exists)(heartbeat_key(ledger.process_id))
    assert await mismatch_texts_async() == [
        f"I4: request {request.id} of a dead process: still reserved: expected 0, found {PRICE}"
    ]


@needs_redis
async def test_project_missing_from_the_drained_set_is_found(in_redis: LedgerHarness, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    day = await budget(key, 10)
    for _ in range(2):
        request = reserve_request(key, day)
        await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
        await in_redis.wait_until_written()
        blocking_client().srem(PROJECTS_KEY, key.project_id)
    assert await UsageRecord.objects.acount() == 1
    missing = f"I4: project {key.project_id}: in the set of projects that are drained: expected 1, found 0"
    assert [text for text in await mismatch_texts_async() if text.startswith("I")] == [missing]
    await ledger.background_tasks.register_projects()
    await in_redis.wait_until_written()
    await sync_to_async(roll_up_usage)()
    assert await UsageRecord.objects.acount() == 2
    assert await mismatch_texts_async() == []


@needs_redis
async def test_unindexed_window_is_found(in_redis: LedgerHarness, key: ApiKey) -> None:
    ledger = await in_redis.start()
    total = await budget(key, 10, Period.TOTAL)
    await ledger.reserve(reserve_request(key, total))
    assert await mismatch_texts_async() == []
    blocking_client().hdel(f"{key_prefix(key.project_id)}state", f"w:k{key.pk}")
    assert await mismatch_texts_async() == [
        f"I5: budget {total.id}, window total: in the list of open windows: expected 1, found 0"
    ]


@needs_redis
@pytest.mark.parametrize(
    ("field", "shown"), [("spent", "b'abc' and b'0'"), ("reserved", f"b'{PRICE}' and b'abc'")]
)
async def test_non_numeric_amount_is_a_mismatch(
    in_redis: LedgerHarness, key: ApiKey, field: str, shown: str
) -> None:
    ledger = await in_redis.start()
    day, total = await budget(key, 10), await budget(key, 10, Period.TOTAL)
    request = reserve_request(key, day, total)
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
    await in_redis.wait_until_written()
    await sync_to_async(roll_up_usage)()
    blocking_client().hset(f"{key_prefix(key.project_id)}w:{day.id}/2026-11-20", field, "abc")
    blocking_client().hset(f"{key_prefix(key.project_id)}w:{total.id}/total", "spent", 7)
    assert await mismatch_texts_async() == [
        f"I5: budget {day.id}, window 2026-11-20: spent and reserved: expected whole numbers, found {shown}",
        f"I5: budget {total.id}, window total: spent: expected {PRICE}, found 7",
    ]


@needs_redis
async def test_corrupt_project_does_not_hide_others(
    in_redis: LedgerHarness, key: ApiKey, charlie: User
) -> None:
    other = await sync_to_async(key_in_other_project)(charlie)
    ledger = await in_redis.start()
    day, other_budget = await budget(key, 10), await budget(other, 10)
    for one, budget_limit in ((key, day), (other, other_budget)):
        await ledger.reserve(reserve_request(one, budget_limit))
    blocking_client().set(f"{key_prefix(key.project_id)}open", "nonsense")
    blocking_client().hset(f"{key_prefix(other.project_id)}w:{other_budget.id}/2026-11-20", "spent", 7)
    broken, spent = await mismatch_texts_async()
    assert broken.startswith(
        f"unread: project {key.project_id}: expected a ledger that can be read, found LedgerUnavailable: "
    )
    assert spent == f"I5: budget {other_budget.id}, window 2026-11-20: spent: expected 0, found 7"


@needs_redis
async def test_project_with_large_backlog_is_reported_as_skipped(
    in_redis: LedgerHarness, key: ApiKey, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_BACKLOG", 2)
    other = await sync_to_async(key_in_other_project)(charlie)
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    day, other_budget = await budget(key, 10), await budget(other, 10)
    for _ in range(2):
        await charge(ledger, key, day)
        assert await audited() == ([], {})
    await charge(ledger, other, other_budget)
    blocking_client().hincrby(f"{key_prefix(key.project_id)}w:{day.id}/2026-11-20", "spent", 7)
    damage = f"I5: budget {day.id}, window 2026-11-20: spent: expected {2 * PRICE}, found {2 * PRICE + 7}"
    assert await audited() == ([damage], {})
    await charge(ledger, key, day)
    with patch.object(queries, "read_atomically", wraps=queries.read_atomically) as reads:
        assert await audited() == ([], {key.project_id: 3})
    read = [call.args[1] for call in reads.call_args_list]
    assert read == [other.project_id], "only the other stream is read"
    assert await command_output() == [
        f"project {key.project_id}: 3 records wait to be written: not compared",
        "1 windows, 0 open reservations checked: 0 differences.",
    ]
    assert await sync_to_async(audit_ledger)() == 0
    await in_redis.wait_until_written()
    await sync_to_async(roll_up_usage)()
    assert await audited() == (
        [damage.replace(f"{2 * PRICE}", f"{3 * PRICE}").replace(f"{2 * PRICE + 7}", f"{3 * PRICE + 7}")],
        {},
    )


@needs_redis
async def test_project_skipped_in_one_pass_is_reported(
    in_redis: LedgerHarness, key: ApiKey, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MAX_BACKLOG", 0)
    other = await sync_to_async(key_in_other_project)(charlie)
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    other_budget = await budget(other, 10)
    await ledger.reserve(reserve_request(other, other_budget))
    await charge(ledger, key)
    blocking_client().hincrby(f"{key_prefix(other.project_id)}w:{other_budget.id}/2026-11-20", "spent", 7)
    drain = async_to_sync(ledger.drainer.drain)
    monkeypatch.setattr(time, "sleep", lambda _: drain())
    warnings: list[dict[str, object]] = []
    monkeypatch.setattr(run.log, "warning", lambda event, message, **fields: warnings.append(fields))
    found, skipped = await audited()
    assert len(found) == 1 and skipped == {key.project_id: 1}
    assert warnings == [{"project_id": key.project_id, "backlog": 1}]
    assert await UsageRecord.objects.acount() == 1


@needs_redis
async def test_audit_checks_each_process_once_and_pages_do_not(in_redis: LedgerHarness, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    for _ in range(5):
        await ledger.reserve(reserve_request(key))
    commands = partial(blocking_client().info, "commandstats")
    blocking_client().config_resetstat()
    assert len(await sync_to_async(queries.reservations)(key.project_id)) == 5
    assert "cmdstat_exists" not in commands()
    assert await audited() == ([], {})
    assert commands()["cmdstat_exists"]["calls"] == 1


@needs_redis
async def test_all_pages_of_the_record_stream_are_read(
    in_redis: LedgerHarness, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "PAGE_SIZE", 2)
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    ids = [await charge(ledger, key) for _ in range(5)]
    assert [
        entry.id for entry in await sync_to_async(lambda: list(queries.undrained_records(key.project_id)))()
    ] == ids


@asynccontextmanager
async def without_redis(ledger: RedisLedger) -> AsyncIterator[None]:
    """Admit requests as if Redis were down. Their spend is counted afterwards."""
    breaker, ledger.policy = ledger.client.breaker, OutagePolicy(allow_budgeted=True)
    breaker.failures, breaker.open_until = FAILURE_THRESHOLD, math.inf
    yield
    breaker.failures = 0
    await ledger.retry_pending()
    await ledger.spill()


def request_at(created_at: datetime, key: ApiKey, *budgets: BudgetLimit) -> ReserveRequest:
    request = reserve_request(key, *budgets)
    request.estimate.created_at = created_at
    return request


@needs_redis
@pytest.mark.parametrize("drained", [False, True])
async def test_only_spend_from_an_outage_may_exceed_a_budget(
    in_redis: LedgerHarness, key: ApiKey, drained: bool
) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    day = await budget(key, 3)
    await Budget.objects.aupdate(changed_at=NOON - timedelta(days=400))
    await charge(ledger, key, day)
    async with without_redis(ledger):
        for _ in range(4):
            await charge(ledger, key, day)
    if drained:
        await in_redis.wait_until_written()
    window = f"budget {day.id}, window 2026-11-20"
    allowed = (
        f"allowed: {window}: {2 * PRICE} of the {5 * PRICE} spent and reserved "
        "was admitted while Redis was down"
    )
    assert await confirmed_findings() == ([], [allowed])
    blocking_client().hincrby(f"{key_prefix(key.project_id)}w:{day.id}/2026-11-20", "spent", 3 * PRICE)
    found, overruns = await confirmed_findings()
    assert found == [
        f"I5: {window}: spent: expected {5 * PRICE}, found {8 * PRICE}",
        f"I1: {window}: spent and reserved, at most: expected {7 * PRICE}, found {8 * PRICE}",
    ]
    assert overruns == []


@needs_redis
async def test_overspending_after_redis_returns_is_found(in_redis: LedgerHarness, key: ApiKey) -> None:
    """Unchecked requests of more than an hour ago were already counted when the next request was checked."""
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    day = await budget(key, 3)
    await Budget.objects.aupdate(changed_at=NOON - timedelta(days=400))
    async with without_redis(ledger):
        for _ in range(2):
            await settle(
                ledger,
                request := request_at(NOON - timedelta(hours=3), key, day),
                await ledger.reserve(request),
                cost=PRICE,
            )
    await charge(ledger, key, day)
    assert await confirmed_findings() == ([], [])
    request = reserve_request(key, replace(day, limit_nano=9 * PRICE))
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
    i1 = (
        f"I1: budget {day.id}, window 2026-11-20: spent and reserved, at most: "
        f"expected {3 * PRICE}, found {4 * PRICE}"
    )
    assert await confirmed_findings() == ([i1], [])


@needs_redis
async def test_request_in_flight_from_an_outage_may_exceed_a_budget(
    in_redis: LedgerHarness, key: ApiKey
) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    day = await budget(key, 1)
    await Budget.objects.aupdate(changed_at=NOON - timedelta(days=400))
    await charge(ledger, key, day)
    async with without_redis(ledger):
        await ledger.reserve(reserve_request(key, day))
    await in_redis.wipe()
    await ledger.background_tasks.tick()
    await eventually(partial(is_denied, ledger, key, day))
    found, overruns = await confirmed_findings()
    assert found == [] and len(overruns) == 1 and f"{PRICE} of the {2 * PRICE}" in overruns[0]


async def is_denied(ledger: RedisLedger, key: ApiKey, budget_limit: BudgetLimit) -> bool:
    with suppress(LedgerUnavailable):
        return isinstance(await reserve(ledger, reserve_request(key, budget_limit)), BudgetExceeded)
    return False


@needs_redis
async def test_unsent_record_is_found_while_redis_answers(in_redis: LedgerHarness, key: ApiKey) -> None:
    ledger = await in_redis.start()
    assert isinstance(ledger, RedisLedger)
    await ledger.background_tasks.stop()
    unsent = [UnsentRow(reserve_request(key).estimate) for _ in range(2)]
    await ledger.record_store.save_unsent(unsent)
    findings = {
        f"I4: record {each.entry.id} that waits in the database: in Redis: expected 1, found 0"
        for each in unsent
    }
    assert set(await mismatch_texts_async()) == findings
    await ledger.reaper.settle_unsent()
    assert await mismatch_texts_async() == []


async def confirmed_findings() -> tuple[list[str], list[str]]:
    """Return the mismatches without those of roll-ups, and the allowed overruns."""
    audit = await sync_to_async(run_audit)()
    return [str(each) for each in audit.mismatches if each.rule != "roll-up"], list(map(str, audit.overruns))


async def charge(ledger: RedisLedger, key: ApiKey, *budgets: BudgetLimit) -> UUID:
    request = reserve_request(key, *budgets)
    await settle(ledger, request, await ledger.reserve(request), cost=PRICE)
    return request.id


async def audited() -> tuple[list[str], dict[int, int]]:
    """Return the mismatches, and the backlogs of projects that were skipped."""
    audit = await sync_to_async(run_audit)()
    return list(map(str, audit.mismatches)), audit.skipped_backlogs


async def command_output() -> list[str]:
    """Return the lines that the command prints; it must exit with status 0."""
    out = StringIO()
    await sync_to_async(call_command)("audit_ledger", stdout=out)
    return out.getvalue().splitlines()

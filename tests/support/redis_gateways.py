"""Several processes with a separate Redis for their ledger, which tests can kill, empty or pause."""

import asyncio
from contextlib import suppress
from datetime import UTC, date, datetime
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.db.models import Sum

from billing.ledger import AdmissionDenied, LedgerUnavailable, ReservationGrant, ReserveRequest, UsageEntry
from billing.ledger.interface import BudgetLimit, RateLimit, WindowBalance
from billing.ledger.redis import OutagePolicy, RedisLedger, queries
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.sql.connection import DatabaseErrors
from billing.models import Budget, Period, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from tests.support.environment import ON_SERVERS

PRICE = 1_000
TODAY = date(2026, 11, 20)
WINDOW = "2026-11-20"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PROCESSES = 4
LONG_TIMEOUT = OutagePolicy(timeout_s=0.3)
"""Longer than the default, because Redis shares its two cores with the tests."""

needs_servers = pytest.mark.skipif(not ON_SERVERS, reason="needs Redis and PostgreSQL")


def budget(
    key: ApiKey,
    requests: int,
    *,
    period: Period = Period.DAY,
    whole_project: bool = False,
    mode: str = "hard",
) -> BudgetLimit:
    """Create a budget that can pay for this many requests."""
    owner = None if whole_project else key
    row = Budget.objects.create(
        project=key.project, key=owner, period=period, limit_nano=requests * PRICE, mode=mode
    )
    return BudgetLimit(row.pk, row.period, row.limit_nano, is_project_wide=whole_project, mode=mode)


def reserve_request(
    key: ApiKey,
    *budgets: BudgetLimit,
    limits: tuple[RateLimit, ...] = (),
    tokens: int = 10,
    day: date = TODAY,
) -> ReserveRequest:
    draft = UsageEntry(
        id=uuid7(), project_id=key.project_id, key_id=key.pk, day=day, created_at=NOON,
        request_id="request", operation="chat", format="openai", cost_nano=PRICE, estimated=True,
    )  # fmt: skip
    return ReserveRequest(
        draft.id, key.project_id, key.pk, ZoneInfo("UTC"), PRICE, PRICE, budgets, limits, tokens, draft
    )


async def reserve(
    ledger: RedisLedger, request: ReserveRequest
) -> tuple[ReserveRequest, ReservationGrant] | AdmissionDenied | LedgerUnavailable:
    try:
        return request, await ledger.reserve(request)
    except (AdmissionDenied, LedgerUnavailable) as denial:
        return denial


async def settle(
    ledger: RedisLedger, request: ReserveRequest, reservation: ReservationGrant, cost: int
) -> None:
    request.estimate.cost_nano, request.estimate.estimated = cost, False
    await ledger.settle(reservation, request.estimate)


async def window_total(key: ApiKey, budget_limit: BudgetLimit, window: str = WINDOW) -> WindowBalance | None:
    """Return the balance of a budget's window; None if it is not open."""
    windows = {budget_limit.id: window}
    return (await sync_to_async(queries.window_balances)(key.project_id, windows)).get(budget_limit.id)


async def recorded_cost() -> int:
    total: int = (await UsageRecord.objects.aaggregate(total=Sum("cost_nano", default=0)))["total"]
    return total


async def drain_all(gateways: list[RedisLedger]) -> None:
    """Retry until SQL has every record."""
    async with asyncio.timeout(30):
        while True:
            with suppress(RedisUnavailable, *DatabaseErrors):
                for ledger in gateways:
                    await ledger.retry_pending()
                if (
                    not any(
                        has_unsent_records(ledger) or ledger.pending.pending_cancellations
                        for ledger in gateways
                    )
                    and not await gateways[0].drainer.drain()
                ):
                    return
            await asyncio.sleep(0.05)


def has_unsent_records(ledger: RedisLedger) -> bool:
    """Return whether a record waits for Redis or is on its way to it."""
    return any(record.stream_id is None for record in ledger.pending.records.values())


async def assert_ledger_consistent(
    gateways: list[RedisLedger], key: ApiKey, budget_limit: BudgetLimit, reserved: int = 0
) -> None:
    await drain_all(gateways)
    spent = await recorded_cost()
    assert await window_total(key, budget_limit) == WindowBalance(spent, reserved)


def run_in_thread(call: partial[None]) -> asyncio.Future[None]:
    return asyncio.get_running_loop().run_in_executor(None, call)

"""The ledger's transactions, in SQL that SQLite and PostgreSQL share.

Each step runs inside a transaction that its caller began, and checks before it writes: a step that refuses has written
nothing. Steps never overlap: one process has this ledger, and one connection.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol
from uuid import UUID

from msgspec.structs import replace

from billing.budgets.windows import ends_at, window_days, window_name, window_names
from billing.ledger.interface import BudgetExceeded, BudgetLimit, ReservationGrant, ReserveRequest
from billing.ledger.usage_entry import COLUMNS, UsageEntry, decode_entry, encode_entry
from billing.models import CorrectionReason, Mode
from billing.pricing import Tokens

INSERT_RECORD_SQL = f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (id) DO NOTHING"
INSERT_RESERVATION_SQL = "INSERT INTO billing_reservation (id, project_id, key_id, amount_nano, windows, estimate) VALUES (%s, %s, %s, %s, %s, %s)"
ADD_SPENT_SQL = "spent_nano = spent_nano + CASE WHEN spent_nano < %s THEN %s ELSE 0 END"
COUNTER_CAP_NANO = 2**62
"""A window that has spent these 4.6 billion USD counts no further: the column ends at twice as much."""
TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


class Executor(Protocol):
    """One database connection inside a transaction."""

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes one statement with `%s` placeholders; the rows that it returns, if any."""


async def reserve(executor: Executor, request: ReserveRequest) -> ReservationGrant:
    """Checks the budgets, then holds the money; raises BudgetExceeded and has then written nothing."""
    windows, amount_nano, shadow_budget_id = [], request.max_nano, None
    for budget in request.budgets:
        window_id, remaining = await get_or_create_window(executor, budget, request)
        if remaining < request.min_nano:
            if budget.is_hard:
                raise budget_exceeded(budget, remaining, request)
            if budget.mode == Mode.SHADOW:
                shadow_budget_id = shadow_budget_id or budget.id
        if budget.is_hard:
            amount_nano = min(amount_nano, remaining)
        windows.append(window_id)
    for window_id in windows:
        await executor.run(
            "UPDATE billing_budgetwindow SET reserved_nano = reserved_nano + %s WHERE id = %s",
            (amount_nano, window_id),
        )
    request.estimate.blocking_budget_id = shadow_budget_id
    estimate = encode_entry(request.estimate).decode()
    await executor.run(
        INSERT_RESERVATION_SQL,
        (request.id.hex, request.project_id, request.key_id, amount_nano, join_window_ids(windows), estimate),
    )
    return ReservationGrant(request.id, amount_nano, shadow_budget_id=shadow_budget_id)


def budget_exceeded(budget: BudgetLimit, remaining: int, request: ReserveRequest) -> BudgetExceeded:
    window = window_name(budget.period, request.estimate.day)
    return BudgetExceeded(budget, max(remaining, 0), request.min_nano, ends_at(window, request.timezone))


async def get_or_create_window(
    executor: Executor, budget: BudgetLimit, request: ReserveRequest
) -> tuple[int, int]:
    """A budget's current window: its id, and what is left in it."""
    name = window_name(budget.period, request.estimate.day)
    select_sql = (
        "SELECT id, spent_nano + reserved_nano FROM billing_budgetwindow WHERE budget_id = %s AND name = %s"
    )
    rows = await executor.run(select_sql, (budget.id, name))
    window_id, used = rows[0] if rows else await create_window(executor, budget, name, request)
    return window_id, budget.limit_nano - used


async def create_window(
    executor: Executor, budget: BudgetLimit, name: str, request: ReserveRequest
) -> tuple[int, int]:
    """A window that had no row yet starts from the records: the budget may be younger than the day or the month.

    Requests in flight join it with what they hold, so that their settlement is counted here too. Gives the window's id and
    what is spent or held in it.
    """
    owner_column, owner_id = (
        ("project_id", request.project_id) if budget.is_project_wide else ("key_id", request.key_id)
    )
    first, last = window_days(name)
    open_reservations = [
        (reservation_id, amount, f"{windows}," if windows else "")
        for reservation_id, amount, windows, draft in await executor.run(
            f"SELECT id, amount_nano, windows, estimate FROM billing_reservation WHERE {owner_column} = %s",
            (owner_id,),
        )
        if first <= decode_entry(draft).day <= last
    ]
    reserved = sum(amount for _, amount, _ in open_reservations)
    rows = await executor.run(
        "INSERT INTO billing_budgetwindow (budget_id, name, spent_nano, reserved_nano) SELECT %s, %s, COALESCE(SUM(cost_nano), 0), %s "
        f"FROM billing_usagerecord WHERE {owner_column} = %s AND day BETWEEN %s AND %s RETURNING id, spent_nano + reserved_nano",
        (budget.id, name, reserved, owner_id, first.isoformat(), last.isoformat()),
    )
    window_id, used = rows[0]
    for reservation_id, _, windows in open_reservations:
        await executor.run(
            "UPDATE billing_reservation SET windows = %s WHERE id = %s",
            (f"{windows}{window_id}", reservation_id),
        )
    return window_id, used


async def settle(executor: Executor, entry: UsageEntry) -> None:
    """Moves what the request held to what it cost, and keeps its record."""
    if await release(executor, entry.id, entry.cost_nano):
        await insert_record(executor, entry)
    else:
        await settle_after_estimate(executor, entry)


async def release(executor: Executor, id: UUID, cost_nano: int) -> bool:
    """Ends a reservation, with what was spent of it. False where there is none."""
    rows = await executor.run(
        "DELETE FROM billing_reservation WHERE id = %s RETURNING amount_nano, windows", (id.hex,)
    )
    for amount, windows in rows:
        for window_id in split_window_ids(windows):
            await executor.run(
                f"UPDATE billing_budgetwindow SET reserved_nano = reserved_nano - %s, {ADD_SPENT_SQL} WHERE id = %s",
                (amount, COUNTER_CAP_NANO, cost_nano, window_id),
            )
    return bool(rows)


async def settle_after_estimate(executor: Executor, entry: UsageEntry) -> None:
    """The request was given up for an estimate, or settled before. The first is corrected, once; the second is left as it is."""
    columns = ", ".join(("cost_nano", "estimated", *TOKEN_COLUMNS))
    stored = await executor.run(f"SELECT {columns} FROM billing_usagerecord WHERE id = %s", (entry.id.hex,))
    if not stored:
        await insert_record(executor, entry)
        await add_spent(executor, entry)
        return
    cost, estimated, *tokens = stored[0]
    if estimated and not entry.estimated:
        estimate = replace(entry, cost_nano=cost, tokens=Tokens(*tokens))
        await save_correction(
            executor, estimate.correction_to(entry.cost_nano, entry.tokens, CorrectionReason.LATE)
        )


async def save_correction(executor: Executor, correction: UsageEntry) -> bool:
    """Keeps a correction and moves what is spent by it. False where it is kept already."""
    if await executor.run("SELECT 1 FROM billing_usagerecord WHERE id = %s", (correction.id.hex,)):
        return False
    await insert_record(executor, correction)
    await add_spent(executor, correction)
    return True


async def add_spent(executor: Executor, entry: UsageEntry) -> None:
    """Adds a cost to the windows, as far as they exist, that the entry's day falls into."""
    for name in window_names(entry.day):
        await executor.run(
            f"UPDATE billing_budgetwindow SET {ADD_SPENT_SQL} WHERE name = %s AND budget_id IN "
            "(SELECT id FROM billing_budget WHERE project_id = %s AND (key_id IS NULL OR key_id = %s))",
            (COUNTER_CAP_NANO, entry.cost_nano, name, entry.project_id, entry.key_id),
        )


async def insert_record(executor: Executor, entry: UsageEntry) -> None:
    """Keeps a record; once, however often it is tried."""
    await executor.run(INSERT_RECORD_SQL, entry.as_row())


async def mark_days_stale(executor: Executor, days: Iterable[tuple[int, date]]) -> None:
    """Tells the roll-up which days of which projects have new records."""
    for project_id, day in sorted(days):
        await executor.run(
            "INSERT INTO billing_staleday (project_id, day, version) VALUES (%s, %s, %s) "
            "ON CONFLICT (project_id, day) DO UPDATE SET version = excluded.version",
            (project_id, day.isoformat(), time.time_ns()),
        )


async def list_open_reservations(executor: Executor) -> list[tuple[str, int]]:
    """Drafts and amounts of all reservations: those of the process before, as long as this one has admitted nothing."""
    rows = await executor.run("SELECT estimate, amount_nano FROM billing_reservation ORDER BY id")
    return [(draft, amount) for draft, amount in rows]


async def settle_orphan(executor: Executor, estimate: str, amount: int) -> UsageEntry:
    """Posts an orphan as an estimate. Whether the upstream was called is not known, so the whole amount counts as spent."""
    orphan = decode_entry(estimate)
    orphan.cost_nano, orphan.reserved_nano, orphan.estimated = amount, amount, True
    await settle(executor, orphan)
    await mark_days_stale(executor, {(orphan.project_id, orphan.day)})
    return orphan


def join_window_ids(windows: list[int]) -> str:
    return ",".join(map(str, windows))


def split_window_ids(windows: str) -> list[int]:
    return [int(window) for window in windows.split(",") if window]

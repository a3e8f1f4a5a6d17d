"""The transactions of the SQL ledger, in SQL for both SQLite and PostgreSQL.

The caller begins and commits the database transaction in which a function runs. Transactions never overlap,
because this ledger has one process and one connection. If `reserve` denies a request, it has reserved
nothing, but may have created budget windows, which the caller commits.
"""

from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol
from uuid import UUID

from msgspec.structs import replace

from billing.budgets.windows import ends_at, window_days, window_name, window_names
from billing.ledger.interface import BudgetExceeded, BudgetLimit, ReservationGrant, ReserveRequest
from billing.ledger.usage_entry import COLUMNS, UsageEntry, decode_entry, encode_entry
from billing.models import CorrectionReason, Mode, StaleDay
from billing.pricing import Tokens

MAX_COUNTED_SPENT_NANO = 2**62
"""When a window has spent this amount (4.6 billion USD), no more spend is added to it.

The column would overflow at twice this amount.
"""

SUM_COSTS_SQL = (
    "SELECT COALESCE(SUM(cost_nano), 0) FROM ("
    "SELECT cost_nano FROM billing_usagerecord WHERE {owner_column} = %s AND day BETWEEN %s AND %s "
    "UNION ALL "
    "SELECT cost_nano FROM billing_archivedusage WHERE {owner_column} = %s AND day BETWEEN %s AND %s"
    ") AS costs"
)
"""The cost of all records of some days, including those that were deleted because of their age."""
INSERT_RECORD_SQL = (
    f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) "
    "ON CONFLICT (id) DO NOTHING"
)
INSERT_RESERVATION_SQL = (
    "INSERT INTO billing_reservation (id, project_id, key_id, amount_nano, windows, estimate) "
    "VALUES (%s, %s, %s, %s, %s, %s)"
)
SELECT_WINDOW_SQL = (
    "SELECT id, spent_nano + reserved_nano FROM billing_budgetwindow WHERE budget_id = %s AND name = %s"
)
SELECT_USED_SQL = "SELECT budget_id, spent_nano + reserved_nano FROM billing_budgetwindow WHERE id = %s"
ADD_RESERVED_SQL = "UPDATE billing_budgetwindow SET reserved_nano = reserved_nano + %s WHERE id = %s"
INSERT_WINDOW_SQL = (
    "INSERT INTO billing_budgetwindow (budget_id, name, spent_nano, reserved_nano) "
    f"SELECT %s, %s, ({SUM_COSTS_SQL}), %s RETURNING id, spent_nano + reserved_nano"
)
CAPPED_ADDITION_SQL = "spent_nano = spent_nano + CASE WHEN spent_nano < %s THEN %s ELSE 0 END"
RELEASE_SQL = (
    f"UPDATE billing_budgetwindow SET reserved_nano = reserved_nano - %s, {CAPPED_ADDITION_SQL} WHERE id = %s"
)
ADD_SPENT_SQL = (
    f"UPDATE billing_budgetwindow SET {CAPPED_ADDITION_SQL} WHERE name = %s AND budget_id IN "
    "(SELECT id FROM billing_budget WHERE project_id = %s AND (key_id IS NULL OR key_id = %s))"
)
TOKEN_COLUMNS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cache_write_12h_tokens",
)


class Executor(Protocol):
    """A database connection inside a transaction."""

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Execute one statement with `%s` placeholders, and return its rows, if any."""


async def reserve(executor: Executor, request: ReserveRequest) -> ReservationGrant:
    """Check the budgets and reserve the amount. If this raises BudgetExceeded, nothing is reserved."""
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
        await executor.run(ADD_RESERVED_SQL, (amount_nano, window_id))
    request.estimate.blocking_budget_id = shadow_budget_id
    estimate = encode_entry(request.estimate).decode()
    await executor.run(
        INSERT_RESERVATION_SQL,
        (request.id.hex, request.project_id, request.key_id, amount_nano, join_window_ids(windows), estimate),
    )
    return ReservationGrant(request.id, amount_nano, shadow_budget_id=shadow_budget_id)


async def extend(executor: Executor, id: UUID, amount_nano: int, budgets: tuple[BudgetLimit, ...]) -> bool:
    """Add to the amount of an open reservation. Return False if a hard budget has less left."""
    rows = await executor.run("SELECT windows FROM billing_reservation WHERE id = %s", (id.hex,))
    windows = [window_id for (text,) in rows for window_id in split_window_ids(text)]
    limits = {budget.id: budget.limit_nano for budget in budgets if budget.is_hard}
    for window_id in windows:
        for budget_id, used in await executor.run(SELECT_USED_SQL, (window_id,)):
            if budget_id in limits and limits[budget_id] - used < amount_nano:
                return False
    for window_id in windows:
        await executor.run(ADD_RESERVED_SQL, (amount_nano, window_id))
    await executor.run(
        "UPDATE billing_reservation SET amount_nano = amount_nano + %s WHERE id = %s",
        (amount_nano, id.hex),
    )
    return bool(rows)


def budget_exceeded(budget: BudgetLimit, remaining: int, request: ReserveRequest) -> BudgetExceeded:
    window = window_name(budget.period, request.estimate.day)
    return BudgetExceeded(budget, max(remaining, 0), request.min_nano, ends_at(window, request.timezone))


async def get_or_create_window(
    executor: Executor, budget: BudgetLimit, request: ReserveRequest
) -> tuple[int, int]:
    """Return the id of a budget's current window, and the remaining amount."""
    name = window_name(budget.period, request.estimate.day)
    rows = await executor.run(SELECT_WINDOW_SQL, (budget.id, name))
    window_id, used = rows[0] if rows else await create_window(executor, budget, name, request)
    return window_id, budget.limit_nano - used


async def create_window(
    executor: Executor, budget: BudgetLimit, name: str, request: ReserveRequest
) -> tuple[int, int]:
    """Create a window. Return its id, and the sum of its spent and reserved amounts.

    The spent amount is the sum over the records of the window's days, including deleted ones, because
    requests may be older than the budget. Open reservations of these days are added to the window, so
    that their later settlement counts in it.
    """
    owner_column, owner_id = (
        ("project_id", request.project_id) if budget.is_project_wide else ("key_id", request.key_id)
    )
    first, last = window_days(name)
    rows = await executor.run(
        f"SELECT id, amount_nano, windows, estimate FROM billing_reservation WHERE {owner_column} = %s",
        (owner_id,),
    )
    reservations = [
        (reservation_id, amount, split_window_ids(windows))
        for reservation_id, amount, windows, estimate in rows
        if first <= decode_entry(estimate).day <= last
    ]
    reserved = sum(amount for _, amount, _ in reservations)
    days = owner_id, first.isoformat(), last.isoformat()
    ((window_id, used),) = await executor.run(
        INSERT_WINDOW_SQL.format(owner_column=owner_column),
        (budget.id, name, *days, *days, reserved),
    )
    for reservation_id, _, windows in reservations:
        await executor.run(
            "UPDATE billing_reservation SET windows = %s WHERE id = %s",
            (join_window_ids([*windows, window_id]), reservation_id),
        )
    return window_id, used


async def settle(executor: Executor, entry: UsageEntry) -> None:
    """Replace a request's reserved amount by its cost, and write its record."""
    if await release(executor, entry.id, entry.cost_nano):
        await insert_record(executor, entry)
    else:
        await settle_without_reservation(executor, entry)


async def release(executor: Executor, id: UUID, cost_nano: int) -> bool:
    """End a reservation and add its cost to its windows. Return False if there is no such reservation."""
    rows = await executor.run(
        "DELETE FROM billing_reservation WHERE id = %s RETURNING amount_nano, windows", (id.hex,)
    )
    for amount, windows in rows:
        for window_id in split_window_ids(windows):
            await executor.run(RELEASE_SQL, (amount, MAX_COUNTED_SPENT_NANO, cost_nano, window_id))
    return bool(rows)


async def settle_without_reservation(executor: Executor, entry: UsageEntry) -> None:
    """Settle a request that has no open reservation.

    If it has no record either, write the record and add its cost. If its record is an estimate and the usage
    is now known, write a correction, once. Otherwise do nothing.
    """
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
    """Write a correction and add its cost to its windows. Return False if it was already written."""
    if await executor.run("SELECT 1 FROM billing_usagerecord WHERE id = %s", (correction.id.hex,)):
        return False
    await insert_record(executor, correction)
    await add_spent(executor, correction)
    return True


async def add_spent(executor: Executor, entry: UsageEntry) -> None:
    """Add a cost to the existing windows of the entry's day."""
    for name in window_names(entry.day):
        await executor.run(
            ADD_SPENT_SQL, add_spent_parameters(entry.project_id, entry.key_id, name, entry.cost_nano)
        )


def add_spent_parameters(
    project_id: int, key_id: int, name: str, amount_nano: int
) -> tuple[int, int, str, int, int]:
    """Return the parameters of ADD_SPENT_SQL that add an amount to the window `name`.

    The amount is added to the project-wide budgets and to the budgets of the key.
    """
    return MAX_COUNTED_SPENT_NANO, amount_nano, name, project_id, key_id


async def insert_record(executor: Executor, entry: UsageEntry) -> None:
    """Write a record. Writing it again has no effect."""
    await executor.run(INSERT_RECORD_SQL, entry.as_row())


async def mark_days_stale(executor: Executor, days: Iterable[tuple[int, date]]) -> None:
    """Mark days, given as (project id, day), as stale, because they have new records.

    The roll-up recomputes them.
    """
    for project_id, day in sorted(days):
        await executor.run(StaleDay.MARK_SQL, StaleDay.mark_parameters(project_id, day))


async def list_open_reservations(executor: Executor) -> list[tuple[str, int]]:
    """Return the estimate and the amount of all reservations.

    Before this process admits its first request, all of them belong to the previous process.
    """
    rows = await executor.run("SELECT estimate, amount_nano FROM billing_reservation ORDER BY id")
    return [(estimate, amount) for estimate, amount in rows]


async def settle_orphan(executor: Executor, estimate: str, amount: int) -> UsageEntry:
    """Settle a reservation of a dead process: charge the whole reserved amount, as an estimate.

    Whether a provider was called is not known.
    """
    orphan = decode_entry(estimate)
    orphan.cost_nano, orphan.reserved_nano, orphan.estimated = amount, amount, True
    await settle(executor, orphan)
    await mark_days_stale(executor, {(orphan.project_id, orphan.day)})
    return orphan


def join_window_ids(windows: list[int]) -> str:
    return ",".join(map(str, windows))


def split_window_ids(windows: str) -> list[int]:
    return [int(window) for window in windows.split(",") if window]

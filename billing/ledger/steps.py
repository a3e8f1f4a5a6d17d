"""The ledger's transactions, in SQL that SQLite and PostgreSQL share.

Each step runs inside a transaction that its caller began, and checks before it writes: a step that refuses has written
nothing. Rows are locked in one order (rate window, then budget windows by id), so that processes cannot deadlock.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol
from uuid import UUID

import msgspec

from billing.ledger.entry import COLUMNS, Entry
from billing.ledger.terms import BudgetExceeded, BudgetTerms, Demand, RateExceeded, Reservation
from billing.ledger.windows import days_of, ends_at, window_name

MINUTE_S = 60
INSERT_RECORD = f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"
INSERT_RESERVATION = (
    "INSERT INTO billing_reservation (id, project_id, key_id, process_id, amount_nano, windows, draft) VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
encode_draft = msgspec.json.Encoder().encode
decode_draft = msgspec.json.Decoder(Entry).decode


class Session(Protocol):
    """One database connection inside a transaction."""

    lock_rows: str
    """` FOR UPDATE`, or nothing where the whole database is locked already."""

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes one statement with `%s` placeholders; the rows that it returns, if any."""


async def reserve(session: Session, demand: Demand, process_id: UUID) -> Reservation:
    """Checks rate and budgets, then holds the money; raises RateExceeded or BudgetExceeded and writes nothing."""
    minute, second = divmod(time.time(), MINUTE_S)
    used = await requests_used(session, demand, int(minute), MINUTE_S - second)
    windows, left = [], demand.at_most
    for budget in sorted(demand.budgets, key=lambda budget: budget.id):
        window_id, remaining = await open_window(session, budget, demand)
        if remaining < demand.at_least:
            window = window_name(budget.period, demand.draft.day)
            raise BudgetExceeded(budget, max(remaining, 0), demand.at_least, ends_at(window, demand.zone))
        windows.append(window_id)
        left = min(left, remaining)
    if used is not None:
        await count_request(session, demand.key_id, int(minute))
    for window_id in windows:
        await session.run("UPDATE billing_budgetwindow SET reserved_nano = reserved_nano + %s WHERE id = %s", (left, window_id))
    draft = encode_draft(demand.draft).decode()
    row = (demand.id.hex, demand.project_id, demand.key_id, process_id.hex, left, join(windows), draft)
    await session.run(INSERT_RESERVATION, row)
    return Reservation(demand.id, left, None if used is None or demand.rpm_limit is None else demand.rpm_limit - used - 1)


async def requests_used(session: Session, demand: Demand, minute: int, seconds_left: float) -> int | None:
    """Requests of the key in this minute before this one; None where it has no limit."""
    if demand.rpm_limit is None:
        return None
    rows = await session.run(f"SELECT minute, requests FROM billing_requestwindow WHERE key_id = %s{session.lock_rows}", (demand.key_id,))
    used = rows[0][1] if rows and rows[0][0] == minute else 0
    if used >= demand.rpm_limit:
        raise RateExceeded(demand.rpm_limit, seconds_left)
    return int(used)


async def count_request(session: Session, key_id: int, minute: int) -> None:
    await session.run(
        "INSERT INTO billing_requestwindow (key_id, minute, requests) VALUES (%s, %s, 1) ON CONFLICT (key_id) DO UPDATE SET "
        "requests = CASE WHEN billing_requestwindow.minute = excluded.minute THEN billing_requestwindow.requests + 1 ELSE 1 END, "
        "minute = excluded.minute",
        (key_id, minute),
    )


async def open_window(session: Session, budget: BudgetTerms, demand: Demand) -> tuple[int, int]:
    """A budget's current window, locked: its id, and what is left in it."""
    name = window_name(budget.period, demand.draft.day)
    find = f"SELECT id, spent_nano + reserved_nano FROM billing_budgetwindow WHERE budget_id = %s AND name = %s{session.lock_rows}"
    rows = await session.run(find, (budget.id, name))
    if not rows:
        await begin_window(session, budget, name, demand)
        rows = await session.run(find, (budget.id, name))
    window_id, taken = rows[0]
    return window_id, budget.limit_nano - taken


async def begin_window(session: Session, budget: BudgetTerms, name: str, demand: Demand) -> None:
    """A window that had no row yet starts from the records: the budget may be younger than the day or the month.

    Requests in flight join it with what they hold, so that their settlement is counted here too.
    """
    scope, owner = ("project_id", demand.project_id) if budget.covers_project else ("key_id", demand.key_id)
    first, last = days_of(name)
    inserted = await session.run(
        "INSERT INTO billing_budgetwindow (budget_id, name, spent_nano, reserved_nano) "
        f"SELECT %s, %s, COALESCE(SUM(cost_nano), 0), 0 FROM billing_usagerecord WHERE {scope} = %s AND day BETWEEN %s AND %s "
        "ON CONFLICT (budget_id, name) DO NOTHING RETURNING id",
        (budget.id, name, owner, first.isoformat(), last.isoformat()),
    )
    if not inserted:
        return
    window_id = inserted[0][0]
    open_reservations = await session.run(f"SELECT id, amount_nano, windows, draft FROM billing_reservation WHERE {scope} = %s{session.lock_rows}", (owner,))
    for reservation_id, amount, windows, draft in open_reservations:
        if first <= decode_draft(draft).day <= last:
            await session.run("UPDATE billing_reservation SET windows = %s WHERE id = %s", (join([*split(windows), window_id]), reservation_id))
            await session.run("UPDATE billing_budgetwindow SET reserved_nano = reserved_nano + %s WHERE id = %s", (amount, window_id))


async def settle(session: Session, entry: Entry) -> bool:
    """Moves what the request held to what it cost, and keeps its record. False where it was resolved before."""
    rows = await session.run("DELETE FROM billing_reservation WHERE id = %s RETURNING amount_nano, windows", (entry.id.hex,))
    if not rows:
        return False
    amount, windows = rows[0]
    for window_id in split(windows):
        await session.run(
            "UPDATE billing_budgetwindow SET reserved_nano = reserved_nano - %s, spent_nano = spent_nano + %s WHERE id = %s",
            (amount, entry.cost_nano, window_id),
        )
    await record(session, entry)
    return True


async def record(session: Session, entry: Entry) -> None:
    """Keeps the record of a request that held nothing."""
    await session.run(INSERT_RECORD, entry.row())


async def mark_days(session: Session, days: Iterable[tuple[int, date]]) -> None:
    """Tells the roll-up which days of which projects have new records."""
    for project_id, day in sorted(days):
        await session.run(
            "INSERT INTO billing_dirtyday (project_id, day, mark) VALUES (%s, %s, %s) ON CONFLICT (project_id, day) DO UPDATE SET mark = excluded.mark",
            (project_id, day.isoformat(), time.time_ns()),
        )


async def resolve_orphans(session: Session, silent_since: str | None, process_id: UUID) -> list[Entry]:
    """Posts, as estimates, the reservations of processes that have died. Whether the upstream was called is not known,
    so the whole amount counts as spent.

    With `silent_since` (a time as text), of processes not seen since then; without, of every process but this one.
    """
    silent = "NOT EXISTS (SELECT 1 FROM billing_gatewayprocess p WHERE p.id = billing_reservation.process_id AND p.seen_at > %s)"
    where, params = ("process_id <> %s", (process_id.hex,)) if silent_since is None else (silent, (silent_since,))
    rows = await session.run(f"SELECT draft FROM billing_reservation WHERE {where} ORDER BY id{session.lock_rows}", params)
    orphans = [decode_draft(draft) for (draft,) in rows]
    for orphan in orphans:
        await settle(session, orphan)
    return orphans


async def beat(session: Session, process_id: UUID, now: str) -> None:
    await session.run(
        "INSERT INTO billing_gatewayprocess (id, seen_at) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        (process_id.hex, now),
    )


def join(windows: list[int]) -> str:
    return ",".join(map(str, windows))


def split(windows: str) -> list[int]:
    return [int(window) for window in windows.split(",") if window]

"""The ledger's transactions, in SQL that SQLite and PostgreSQL share.

Each step runs inside a transaction that its caller began, and checks before it writes: a step that refuses has written
nothing. A step first locks its project: steps of one project never overlap, so that no sum misses a row that another
process is just writing, and processes cannot deadlock. SQLite has one writer anyway.
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

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes one statement with `%s` placeholders; the rows that it returns, if any."""

    async def lock(self, project_id: int) -> None:
        """Waits until no other transaction holds this project, then holds it to the end of this one."""


async def reserve(session: Session, demand: Demand, process_id: UUID) -> Reservation:
    """Checks rate and budgets, then holds the money; raises RateExceeded or BudgetExceeded and writes nothing."""
    await session.lock(demand.project_id)
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
    rows = await session.run("SELECT minute, requests FROM billing_requestwindow WHERE key_id = %s", (demand.key_id,))
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
    """A budget's current window: its id, and what is left in it."""
    name = window_name(budget.period, demand.draft.day)
    find = "SELECT id, spent_nano + reserved_nano FROM billing_budgetwindow WHERE budget_id = %s AND name = %s"
    rows = await session.run(find, (budget.id, name))
    window_id, taken = rows[0] if rows else await begin_window(session, budget, name, demand)
    return window_id, budget.limit_nano - taken


async def begin_window(session: Session, budget: BudgetTerms, name: str, demand: Demand) -> tuple[int, int]:
    """A window that had no row yet starts from the records: the budget may be younger than the day or the month.

    Requests in flight join it with what they hold, so that their settlement is counted here too. Gives the window's id and
    what is spent or held in it.
    """
    scope, owner = ("project_id", demand.project_id) if budget.covers_project else ("key_id", demand.key_id)
    first, last = days_of(name)
    joining = [
        (reservation_id, amount, f"{windows}," if windows else "")
        for reservation_id, amount, windows, draft in await session.run(
            f"SELECT id, amount_nano, windows, draft FROM billing_reservation WHERE {scope} = %s", (owner,)
        )
        if first <= decode_draft(draft).day <= last
    ]
    held = sum(amount for _, amount, _ in joining)
    rows = await session.run(
        "INSERT INTO billing_budgetwindow (budget_id, name, spent_nano, reserved_nano) SELECT %s, %s, COALESCE(SUM(cost_nano), 0), %s "
        f"FROM billing_usagerecord WHERE {scope} = %s AND day BETWEEN %s AND %s RETURNING id, spent_nano + reserved_nano",
        (budget.id, name, held, owner, first.isoformat(), last.isoformat()),
    )
    window_id, taken = rows[0]
    for reservation_id, _, windows in joining:
        await session.run("UPDATE billing_reservation SET windows = %s WHERE id = %s", (f"{windows}{window_id}", reservation_id))
    return window_id, taken


async def settle(session: Session, entry: Entry) -> bool:
    """Moves what the request held to what it cost, and keeps its record. False where it was resolved before."""
    await session.lock(entry.project_id)
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
            "INSERT INTO billing_dirtyday (project_id, day, mark) VALUES (%s, %s, %s) "
            "ON CONFLICT (project_id, day) DO UPDATE SET mark = excluded.mark",
            (project_id, day.isoformat(), time.time_ns()),
        )


async def find_orphans(session: Session, silent_since: str | None, process_id: UUID) -> list[tuple[str, int]]:
    """Drafts and amounts of the reservations of processes that have died.

    With `silent_since` (a time as text), of processes not seen since then; without, of every process but this one.
    """
    silent = "NOT EXISTS (SELECT 1 FROM billing_gatewayprocess p WHERE p.id = billing_reservation.process_id AND p.seen_at > %s)"
    where, params = ("process_id <> %s", (process_id.hex,)) if silent_since is None else (silent, (silent_since,))
    rows = await session.run(f"SELECT draft, amount_nano FROM billing_reservation WHERE {where} ORDER BY project_id, id", params)
    return [(draft, amount) for draft, amount in rows]


async def resolve(session: Session, draft: str, amount: int) -> Entry | None:
    """Posts an orphan as an estimate. Whether the upstream was called is not known, so the whole amount counts as spent.
    None where another process has done so before."""
    orphan = decode_draft(draft)
    orphan.cost_nano, orphan.estimated = amount, True
    if not await settle(session, orphan):
        return None
    await mark_days(session, {(orphan.project_id, orphan.day)})
    return orphan


async def beat(session: Session, process_id: UUID, now: str) -> None:
    await session.run(
        "INSERT INTO billing_gatewayprocess (id, seen_at) VALUES (%s, %s) ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
        (process_id.hex, now),
    )


def join(windows: list[int]) -> str:
    return ",".join(map(str, windows))


def split(windows: str) -> list[int]:
    return [int(window) for window in windows.split(",") if window]

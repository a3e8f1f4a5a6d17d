"""The ledger's transactions, in SQL that SQLite and PostgreSQL share.

Each step runs inside a transaction that its caller began, and checks before it writes: a step that refuses has written
nothing. Steps never overlap: one process has this ledger, and one connection.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, Protocol
from uuid import UUID

import msgspec
from msgspec.structs import replace

from billing.ledger.entry import COLUMNS, Entry
from billing.ledger.terms import BudgetExceeded, BudgetTerms, Demand, Reservation
from billing.ledger.windows import days_of, ends_at, window_name, window_names
from billing.models import Correction, Mode
from billing.prices import Tokens

INSERT_RECORD = (
    f"INSERT INTO billing_usagerecord ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))}) ON CONFLICT (id) DO NOTHING"
)
INSERT_RESERVATION = "INSERT INTO billing_reservation (id, project_id, key_id, amount_nano, windows, draft) VALUES (%s, %s, %s, %s, %s, %s)"
ADD_SPENT = "spent_nano = spent_nano + CASE WHEN spent_nano < %s THEN %s ELSE 0 END"
FULL_NANO = 2**62
"""A window that has spent these 4.6 billion USD counts no further: the column ends at twice as much."""
TOKEN_COLUMNS = ("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens")
encode_draft = msgspec.json.Encoder().encode
decode_draft = msgspec.json.Decoder(Entry).decode


class Session(Protocol):
    """One database connection inside a transaction."""

    async def run(self, sql: str, params: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Executes one statement with `%s` placeholders; the rows that it returns, if any."""


async def reserve(session: Session, demand: Demand) -> Reservation:
    """Checks the budgets, then holds the money; raises BudgetExceeded and has then written nothing."""
    windows, left, shadow = [], demand.at_most, None
    for budget in demand.budgets:
        window_id, remaining = await open_window(session, budget, demand)
        if remaining < demand.at_least:
            if budget.is_hard:
                raise exceeded(budget, remaining, demand)
            if budget.mode == Mode.SHADOW:
                shadow = shadow or budget.id
        if budget.is_hard:
            left = min(left, remaining)
        windows.append(window_id)
    for window_id in windows:
        await session.run("UPDATE billing_budgetwindow SET reserved_nano = reserved_nano + %s WHERE id = %s", (left, window_id))
    demand.draft.refusing_budget_id = shadow
    draft = encode_draft(demand.draft).decode()
    await session.run(INSERT_RESERVATION, (demand.id.hex, demand.project_id, demand.key_id, left, join(windows), draft))
    return Reservation(demand.id, left, shadow_budget_id=shadow)


def exceeded(budget: BudgetTerms, remaining: int, demand: Demand) -> BudgetExceeded:
    window = window_name(budget.period, demand.draft.day)
    return BudgetExceeded(budget, max(remaining, 0), demand.at_least, ends_at(window, demand.zone))


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


async def settle(session: Session, entry: Entry) -> None:
    """Moves what the request held to what it cost, and keeps its record."""
    if await let_go(session, entry.id, entry.cost_nano):
        await record(session, entry)
    else:
        await settle_late(session, entry)


async def let_go(session: Session, id: UUID, cost_nano: int) -> bool:
    """Ends a reservation, with what was spent of it. False where there is none."""
    rows = await session.run("DELETE FROM billing_reservation WHERE id = %s RETURNING amount_nano, windows", (id.hex,))
    for amount, windows in rows:
        for window_id in split(windows):
            await session.run(
                f"UPDATE billing_budgetwindow SET reserved_nano = reserved_nano - %s, {ADD_SPENT} WHERE id = %s",
                (amount, FULL_NANO, cost_nano, window_id),
            )
    return bool(rows)


async def settle_late(session: Session, entry: Entry) -> None:
    """The request was given up for an estimate, or settled before. The first is corrected, once; the second is left as it is."""
    columns = ", ".join(("cost_nano", "estimated", *TOKEN_COLUMNS))
    kept = await session.run(f"SELECT {columns} FROM billing_usagerecord WHERE id = %s", (entry.id.hex,))
    if not kept:
        await record(session, entry)
        await move_spent(session, entry)
        return
    cost, estimated, *tokens = kept[0]
    if estimated and not entry.estimated:
        estimate = replace(entry, cost_nano=cost, tokens=Tokens(*tokens))
        await correct(session, estimate.corrected(entry.cost_nano, entry.tokens, Correction.LATE))


async def correct(session: Session, correction: Entry) -> bool:
    """Keeps a correction and moves what is spent by it. False where it is kept already."""
    if await session.run("SELECT 1 FROM billing_usagerecord WHERE id = %s", (correction.id.hex,)):
        return False
    await record(session, correction)
    await move_spent(session, correction)
    return True


async def move_spent(session: Session, entry: Entry) -> None:
    """Adds a cost to the windows, as far as they exist, that the entry's day falls into."""
    for name in window_names(entry.day):
        await session.run(
            f"UPDATE billing_budgetwindow SET {ADD_SPENT} WHERE name = %s AND budget_id IN "
            "(SELECT id FROM billing_budget WHERE project_id = %s AND (key_id IS NULL OR key_id = %s))",
            (FULL_NANO, entry.cost_nano, name, entry.project_id, entry.key_id),
        )


async def record(session: Session, entry: Entry) -> None:
    """Keeps a record; once, however often it is tried."""
    await session.run(INSERT_RECORD, entry.row())


async def mark_days(session: Session, days: Iterable[tuple[int, date]]) -> None:
    """Tells the roll-up which days of which projects have new records."""
    for project_id, day in sorted(days):
        await session.run(
            "INSERT INTO billing_dirtyday (project_id, day, mark) VALUES (%s, %s, %s) "
            "ON CONFLICT (project_id, day) DO UPDATE SET mark = excluded.mark",
            (project_id, day.isoformat(), time.time_ns()),
        )


async def find_orphans(session: Session) -> list[tuple[str, int]]:
    """Drafts and amounts of all reservations: those of the process before, as long as this one has admitted nothing."""
    rows = await session.run("SELECT draft, amount_nano FROM billing_reservation ORDER BY id")
    return [(draft, amount) for draft, amount in rows]


async def resolve(session: Session, draft: str, amount: int) -> Entry:
    """Posts an orphan as an estimate. Whether the upstream was called is not known, so the whole amount counts as spent."""
    orphan = decode_draft(draft)
    orphan.cost_nano, orphan.held_nano, orphan.estimated = amount, amount, True
    await settle(session, orphan)
    await mark_days(session, {(orphan.project_id, orphan.day)})
    return orphan


def join(windows: list[int]) -> str:
    return ",".join(map(str, windows))


def split(windows: str) -> list[int]:
    return [int(window) for window in windows.split(",") if window]

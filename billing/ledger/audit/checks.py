"""The ledger's invariants, checked against the records behind its counters.

The rules have the names of `docs/ledger.md`. Amounts are nano-USD. Nothing is read here: `sql_snapshot` and
`redis_snapshot` read what is compared, as of one moment.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import date, timedelta
from operator import attrgetter

from billing.budgets.windows import window_days
from billing.ledger.audit.snapshot import (
    LedgerSnapshot,
    Mismatch,
    Overrun,
    RecordsSnapshot,
    ReservationSnapshot,
    SpendRow,
    WindowSnapshot,
)
from billing.ledger.usage_entry import UsageEntry
from billing.models import Budget, Mode
from billing.usage.reports import ROLLUP_SUMS

LAST_AUDIT_KEY = "ledger-audit"
"""Cache key of the last scheduled audit, for the metrics.

The value is the number of mismatches and the Unix time of its end.
"""
CHANGE_PROPAGATION = timedelta(seconds=2)
"""How long processes may still admit requests under the old limit after a budget has changed."""
ROLLUP_COLUMNS = tuple(ROLLUP_SUMS)


def find_mismatches(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    """Yield all mismatches of a project, in the order of the rules."""
    yield from snapshot.read_errors
    for window, rows in rows_by_window(snapshot):
        yield from check_window_totals(snapshot, window, rows)
    yield from check_reserved_totals(snapshot)
    yield from check_reservation_coverage(snapshot)
    yield from check_record_uniqueness(snapshot.records)
    yield from check_settled_reservations(snapshot)
    yield from check_costs(snapshot.records)
    yield from check_rollups(snapshot)


def find_overruns(snapshot: LedgerSnapshot) -> Iterator[Overrun]:
    """Yield the windows beyond their limit, but not beyond what was admitted while Redis was down."""
    for window, rows in rows_by_window(snapshot):
        limit = effective_limit(snapshot, window, rows)
        if limit is None:
            continue
        if limit < window.used <= limit + snapshot.records.unchecked.get(window.id, 0):
            yield Overrun(str(window), limit, window.used)


def rows_by_window(snapshot: LedgerSnapshot) -> Iterator[tuple[WindowSnapshot, list[SpendRow]]]:
    """Yield each window with the spend that its budget covers on the window's days."""
    rows = [*snapshot.records.spend_rows, *map(spend_from_entry, snapshot.undrained_records)]
    rows.sort(key=attrgetter("day"))
    for window in snapshot.windows:
        key_id = snapshot.budgets[window.budget_id].key_id
        in_window = spend_between(rows, *window_days(window.name))
        yield window, [row for row in in_window if key_id in (None, row.key_id)]


def window_covers(budget: Budget, window: str, spend: UsageEntry | ReservationSnapshot) -> bool:
    """Return whether a record or a reservation belongs to a window of a budget."""
    first, last = window_days(window)
    return first <= spend.day <= last and budget.key_id in (None, spend.key_id)


def spend_between(rows: list[SpendRow], first: date, last: date) -> list[SpendRow]:
    """Return the rows of some days, out of rows in the order of their days.

    The search is binary because there are as many windows as days, and each window has few of the rows.
    """
    start = bisect_left(rows, first, key=attrgetter("day"))
    end = bisect_right(rows, last, key=attrgetter("day"))
    return rows[start:end]


def check_window_totals(
    snapshot: LedgerSnapshot, window: WindowSnapshot, rows: list[SpendRow]
) -> Iterator[Mismatch]:
    spent = sum(row.cost for row in rows)
    if window.spent != spent:
        yield Mismatch("I5", f"{window}: spent", spent, window.spent)
    limit = effective_limit(snapshot, window, rows)
    if limit is None:
        return
    allowed = limit + snapshot.records.unchecked.get(window.id, 0)
    if window.used > allowed:
        yield Mismatch("I1", f"{window}: spent and reserved, at most", allowed, window.used)


def effective_limit(snapshot: LedgerSnapshot, window: WindowSnapshot, rows: list[SpendRow]) -> int | None:
    """Return the most that requests whose budgets were checked may have spent and reserved in a window.

    That is the limit, and what they cost beyond their reservations. If the limit was lowered, it is at least
    what was used before. Returns None for a budget that denies nothing.
    """
    budget = snapshot.budgets[window.budget_id]
    if budget.mode != Mode.HARD:
        return None
    limit = budget.limit_nano + sum(row.overrun for row in rows)
    return max(limit, used_before_change(snapshot, window, budget)) if window.used > limit else limit


def spend_from_entry(entry: UsageEntry) -> SpendRow:
    """Return the spend of a record that the database does not have yet. A correction reserves nothing."""
    overrun = 0 if entry.unchecked else max(entry.cost_nano - (entry.reserved_nano or 0), 0)
    return SpendRow(entry.key_id, entry.day, entry.cost_nano, overrun)


def used_before_change(snapshot: LedgerSnapshot, window: WindowSnapshot, budget: Budget) -> int:
    """Return what requests from before the last change of a budget have spent or reserved in a window.

    A limit that is set below this admits nothing more, and stays exceeded.
    """
    changed_at = budget.changed_at + CHANGE_PROPAGATION
    spent = (
        entry.cost_nano
        for entry in snapshot.undrained_records
        if entry.created_at < changed_at and window_covers(budget, window.name, entry)
    )
    reserved = (
        each.amount
        for each in snapshot.reservations
        if each.created_at < changed_at and window.id in each.windows
    )
    return snapshot.records.spent_before_change.get(window.id, 0) + sum(spent) + sum(reserved)


def check_reserved_totals(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    expected = Counter[tuple[int, str]]()
    for reservation in snapshot.reservations:
        for id in reservation.windows:
            expected[id] += reservation.amount
    for window in snapshot.windows:
        if window.reserved != expected[window.id]:
            yield Mismatch("I2", f"{window}: reserved", expected[window.id], window.reserved)


def check_reservation_coverage(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    """Check that every open window that covers a reservation counts it.

    A settlement adds the cost to the windows that count the reservation, and to no others.
    """
    for window in snapshot.windows:
        budget = snapshot.budgets[window.budget_id]
        for each in snapshot.reservations:
            if each.amount and window.id not in each.windows and window_covers(budget, window.name, each):
                yield Mismatch("I2", f"request {each.id}: reserved in {window}", each.amount, 0)


def check_record_uniqueness(records: RecordsSnapshot) -> Iterator[Mismatch]:
    """Check the corrections. A request cannot have two records: the record has the request's id."""
    for id, count in records.duplicate_corrections.items():
        yield Mismatch("I3", f"record {id}: late corrections, at most", 1, count)
    for id in records.orphan_corrections:
        yield Mismatch("I3", f"record {id} is corrected: records of it", 1, 0)


def check_settled_reservations(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    for each in snapshot.reservations:
        if each.id in snapshot.records.settled_ids:
            yield Mismatch("I3", f"request {each.id} is settled: still reserved", 0, each.amount)
        elif each.is_orphaned:
            yield Mismatch("I4", f"request {each.id} of a dead process: still reserved", 0, each.amount)


def check_costs(records: RecordsSnapshot) -> Iterator[Mismatch]:
    for id, expected, actual in records.wrong_costs:
        yield Mismatch("price", f"record {id}: cost of its tokens", expected, actual)


def check_rollups(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    zeros = (0,) * len(ROLLUP_COLUMNS)
    record_sums, rollup_sums = snapshot.records.record_sums, snapshot.records.rollup_sums
    for rollup_key in sorted(record_sums.keys() | rollup_sums.keys(), key=str):
        day, key, model, provider = rollup_key
        row = f"project {snapshot.project_id}, {day}, key {key}, {model!r} of {provider!r}"
        expected_sums, actual_sums = record_sums.get(rollup_key, zeros), rollup_sums.get(rollup_key, zeros)
        for column, expected, actual in zip(ROLLUP_COLUMNS, expected_sums, actual_sums, strict=True):
            if expected != actual:
                yield Mismatch("roll-up", f"{row}: {column}", expected, actual)

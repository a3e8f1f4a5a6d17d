"""Check the ledger's invariants: compare its counters with the usage records and open reservations.

Rules are named as in `docs/ledger.md`. Amounts are nano-USD. The functions check a snapshot, which
`sql_snapshot` or `redis_snapshot` has read; they read nothing themselves.
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
"""Cache key of the result of the last scheduled audit, which the metrics show.

The value is the number of mismatches and the Unix time at the end of the audit.
"""
CHANGE_PROPAGATION = timedelta(seconds=2)
"""How long processes may still admit requests under the old limit after a budget was changed."""
ROLLUP_COLUMNS = tuple(ROLLUP_SUMS)


def find_mismatches(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    """Yield all mismatches in the snapshot of a project."""
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
    """Yield windows that exceed their limit only because requests were admitted while Redis was down."""
    for window, rows in rows_by_window(snapshot):
        limit = effective_limit(snapshot, window, rows)
        if limit is None:
            continue
        if limit < window.used <= limit + snapshot.records.unchecked.get(window.id, 0):
            yield Overrun(str(window), limit, window.used)


def rows_by_window(snapshot: LedgerSnapshot) -> Iterator[tuple[WindowSnapshot, list[SpendRow]]]:
    """Yield each window with the spend rows that count in it: the rows of its key on its days."""
    rows = [*snapshot.records.spend_rows, *map(spend_from_entry, snapshot.undrained_records)]
    rows.sort(key=attrgetter("day"))
    for window in snapshot.windows:
        key_id = snapshot.budgets[window.budget_id].key_id
        in_window = spend_between(rows, *window_days(window.name))
        yield window, [row for row in in_window if key_id in (None, row.key_id)]


def window_covers(budget: Budget, window: str, spend: UsageEntry | ReservationSnapshot) -> bool:
    """Return whether a record or a reservation counts in a window of a budget."""
    first, last = window_days(window)
    return first <= spend.day <= last and budget.key_id in (None, spend.key_id)


def spend_between(rows: list[SpendRow], first: date, last: date) -> list[SpendRow]:
    """Return the rows from the day `first` to the day `last`. `rows` must be sorted by day.

    A binary search is used because there can be as many windows as days, each with few of the rows.
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
    """Return the maximum amount that checked requests may have spent and reserved in a window.

    A checked request is one that was not admitted while Redis was down. The maximum is the limit, plus the
    amounts by which requests cost more than their reservations. If the limit was lowered, the maximum is at
    least the amount that was used before the change. Returns None for a budget that does not deny requests.
    """
    budget = snapshot.budgets[window.budget_id]
    if budget.mode != Mode.HARD:
        return None
    limit = budget.limit_nano + sum(row.overrun for row in rows)
    return max(limit, used_before_change(snapshot, window, budget)) if window.used > limit else limit


def spend_from_entry(entry: UsageEntry) -> SpendRow:
    """Return the spend row of an undrained record. For a correction, the reserved amount is 0."""
    overrun = 0 if entry.unchecked else max(entry.cost_nano - (entry.reserved_nano or 0), 0)
    return SpendRow(entry.key_id, entry.day, entry.cost_nano, overrun)


def used_before_change(snapshot: LedgerSnapshot, window: WindowSnapshot, budget: Budget) -> int:
    """Return the amount that requests from before the last change of a budget have spent or reserved.

    If a limit is lowered below this amount, the budget admits no more requests, but remains exceeded.
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
    """Check that every reservation counts in all open windows of its budgets and its day.

    This matters because a settlement adds the cost only to windows in which the reservation counts.
    """
    for window in snapshot.windows:
        budget = snapshot.budgets[window.budget_id]
        for each in snapshot.reservations:
            if each.amount and window.id not in each.windows and window_covers(budget, window.name, each):
                yield Mismatch("I2", f"request {each.id}: reserved in {window}", each.amount, 0)


def check_record_uniqueness(records: RecordsSnapshot) -> Iterator[Mismatch]:
    """Check that a record has at most one late correction, and that corrected records exist.

    A request cannot have two records, because the id of the request is the primary key.
    """
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

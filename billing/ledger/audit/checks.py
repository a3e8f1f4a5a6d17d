"""Whether the books add up: the ledger's invariants, checked against the records that they came from.

The rules bear the names of `docs/ledger.md`. Amounts are nano-USD. Nothing is read here: what is compared was read as of one moment
(`inspection.py`).
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import attrgetter
from uuid import UUID

from billing.budgets.windows import window_days
from billing.ledger.usage_entry import UsageEntry
from billing.models import Budget, Mode
from billing.usage.reports import ROLLUP_SUMS

LAST_AUDIT_KEY = "ledger-audit"
"""Where the last scheduled audit has left the number of differences, and when it ended in seconds since the epoch, for the metrics."""
CHANGE_PROPAGATION = timedelta(seconds=2)
"""How long a request may still be admitted under a limit that has been changed."""

RollupKey = tuple[date, int | None, str, str]
"""What one row of a roll-up sums up: a day, a key, the model that was asked, and its provider."""
RollupSums = tuple[int, ...]
"""Of a group, in the order of SUMMED."""
ROLLUP_COLUMNS = tuple(ROLLUP_SUMS)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Amounts, or words where something is no number at all."""

    rule: str
    subject: str
    expected: int | str
    actual: int | str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.actual}"


@dataclass(frozen=True, slots=True)
class Overrun:
    """A hard budget of which more is spent or held than its limit, because requests were admitted while Redis was away. The operator
    allows this with `GATEWAY_REDIS_DOWN_BUDGETS=open`. Amounts are nano-USD.
    """

    subject: str
    limit: int
    taken: int

    def __str__(self) -> str:
        beyond = self.taken - self.limit
        return f"allowed: {self.subject}: {beyond} of the {self.taken} spent and reserved was admitted while Redis was away"


@dataclass(frozen=True, slots=True)
class WindowSnapshot:
    budget_id: int
    name: str
    spent: int
    reserved: int

    @property
    def id(self) -> tuple[int, str]:
        return self.budget_id, self.name

    @property
    def taken(self) -> int:
        return self.spent + self.reserved

    def __str__(self) -> str:
        return f"budget {self.budget_id}, window {self.name}"


@dataclass(frozen=True, slots=True)
class ReservationSnapshot:
    """An open reservation, and the windows that it counts in. `is_orphaned`: its owner is dead, and it should be gone by now. `unchecked`: it
    was admitted while Redis was away.
    """

    id: UUID
    key_id: int
    day: date
    created_at: datetime
    amount: int
    windows: frozenset[tuple[int, str]]
    is_orphaned: bool
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class SpendRow:
    """What was spent by a key on a day: by its records, or by an event that is not in the database yet. `overrun` is by how much
    requests that were checked cost more than was held for them.
    """

    key_id: int | None
    day: date
    cost: int
    overrun: int = 0


@dataclass
class RecordsSnapshot:
    """What the database says of a project's requests.

    `spent_before_change`: what those that came before the limit of a window's budget was changed have spent in it, where it is beyond the limit.
    `unchecked`: what those that were admitted while Redis was away have spent or hold in a window that is beyond its limit.
    `settled_ids`: those of which there is a record or an event, out of those that hold something. `duplicate_corrections`: late corrections by record, where
    there are several. `orphan_corrections`: records that are corrected without being there. `wrong_costs`: id, cost by tokens and price, and cost, where
    these are not the same. `record_sums` and `rollup_sums`: what the records of each group are, and what the roll-up says.
    """

    spend_rows: list[SpendRow] = field(default_factory=list)
    spent_before_change: dict[tuple[int, str], int] = field(default_factory=dict)
    unchecked: dict[tuple[int, str], int] = field(default_factory=dict)
    settled_ids: set[UUID] = field(default_factory=set)
    duplicate_corrections: dict[UUID, int] = field(default_factory=dict)
    orphan_corrections: list[UUID] = field(default_factory=list)
    wrong_costs: list[tuple[UUID, int, int]] = field(default_factory=list)
    record_sums: dict[RollupKey, RollupSums] = field(default_factory=dict)
    rollup_sums: dict[RollupKey, RollupSums] = field(default_factory=dict)


@dataclass
class LedgerSnapshot:
    """The books of a project, all as of one moment. `undrained_records` are records that the database does not have yet; `read_errors`, what is wrong
    at first sight. `backlog`: where so many records wait to be written that nothing is compared this time, how many they are.
    """

    project_id: int
    budgets: dict[int, Budget] = field(default_factory=dict)
    windows: list[WindowSnapshot] = field(default_factory=list)
    reservations: list[ReservationSnapshot] = field(default_factory=list)
    undrained_records: list[UsageEntry] = field(default_factory=list)
    records: RecordsSnapshot = field(default_factory=RecordsSnapshot)
    read_errors: list[Mismatch] = field(default_factory=list)
    backlog: int = 0


def find_mismatches(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    """All of them, in the order of the rules."""
    yield from snapshot.read_errors
    for window, rows_in_window in counted_windows(snapshot):
        yield from check_window_totals(snapshot, window, rows_in_window)
    yield from check_reserved_totals(snapshot)
    yield from check_reservation_coverage(snapshot)
    yield from check_record_uniqueness(snapshot.records)
    yield from check_settled_reservations(snapshot)
    yield from check_costs(snapshot.records)
    yield from check_rollups(snapshot)


def overruns(state: LedgerSnapshot) -> Iterator[Overrun]:
    """Return the windows that are beyond their limit, and may be."""
    for window, counted in counted_windows(state):
        limit = limit_of(state, window, counted)
        if limit is not None and limit < window.taken <= limit + state.records.unchecked.get(window.id, 0):
            yield Overrun(str(window), limit, window.taken)


def counted_windows(state: LedgerSnapshot) -> Iterator[tuple[WindowSnapshot, list[SpendRow]]]:
    """Return each window with what was spent on its days by what its budget covers."""
    spends = sorted(
        [*state.records.spend_rows, *map(spend_from_entry, state.undrained_records)], key=attrgetter("day")
    )
    for window in state.windows:
        budget = state.budgets[window.budget_id]
        yield (
            window,
            [
                spend
                for spend in spend_between(spends, *window_days(window.name))
                if budget.key_id in (None, spend.key_id)
            ],
        )


def window_covers(
    budget: Budget, window: str, entry_or_reservation: UsageEntry | ReservationSnapshot
) -> bool:
    """Whether what was spent or held belongs to a window."""
    first, last = window_days(window)
    return first <= entry_or_reservation.day <= last and budget.key_id in (None, entry_or_reservation.key_id)


def spend_between(spend_rows: list[SpendRow], first: date, last: date) -> list[SpendRow]:
    """Out of those in the order of their days: there are as many windows as days, and each has few of them."""
    return spend_rows[
        bisect_left(spend_rows, first, key=attrgetter("day")) : bisect_right(
            spend_rows, last, key=attrgetter("day")
        )
    ]


def check_window_totals(
    snapshot: LedgerSnapshot, window: WindowSnapshot, spend_rows: list[SpendRow]
) -> Iterator[Mismatch]:
    spent = sum(spend.cost for spend in spend_rows)
    if window.spent != spent:
        yield Mismatch("I5", f"{window}: spent", spent, window.spent)
    limit = limit_of(snapshot, window, spend_rows)
    if limit is not None and window.taken > (allowed := limit + snapshot.records.unchecked.get(window.id, 0)):
        yield Mismatch("I1", f"{window}: spent and reserved, at most", allowed, window.taken)


def limit_of(state: LedgerSnapshot, window: WindowSnapshot, counted: list[SpendRow]) -> int | None:
    """Return the most that requests whose budgets were checked may have spent and hold; None if the budget refuses nothing."""
    budget = state.budgets[window.budget_id]
    if budget.mode != Mode.HARD:
        return None
    limit = budget.limit_nano + sum(spend.overrun for spend in counted)
    return max(limit, used_before_change(state, window, budget)) if window.taken > limit else limit


def spend_from_entry(entry: UsageEntry) -> SpendRow:
    """A correction holds nothing."""
    over = 0 if entry.unchecked else max(entry.cost_nano - (entry.reserved_nano or 0), 0)
    return SpendRow(entry.key_id, entry.day, entry.cost_nano, over)


def used_before_change(snapshot: LedgerSnapshot, window: WindowSnapshot, budget: Budget) -> int:
    """What requests have spent, or hold, that came before the limit was changed. A limit that was set lower than that already admits
    nothing more, and stays passed.
    """
    changed_at = budget.changed_at + CHANGE_PROPAGATION
    spent = (
        event.cost_nano
        for event in snapshot.undrained_records
        if event.created_at < changed_at and window_covers(budget, window.name, event)
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
    """What a request costs is counted where it holds something: it must hold it in every open window that covers it."""
    for window in snapshot.windows:
        budget = snapshot.budgets[window.budget_id]
        for each in snapshot.reservations:
            if each.amount and window.id not in each.windows and window_covers(budget, window.name, each):
                yield Mismatch("I2", f"request {each.id}: held in {window}", each.amount, 0)


def check_record_uniqueness(records: RecordsSnapshot) -> Iterator[Mismatch]:
    """A request has one record, which is its id's; what is left to check are its corrections."""
    for id, count in records.duplicate_corrections.items():
        yield Mismatch("I3", f"record {id}: late corrections, at most", 1, count)
    for id in records.orphan_corrections:
        yield Mismatch("I3", f"record {id} is corrected: records of it", 1, 0)


def check_settled_reservations(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    for each in snapshot.reservations:
        if each.id in snapshot.records.settled_ids:
            yield Mismatch("I3", f"request {each.id} is settled: still held", 0, each.amount)
        elif each.is_orphaned:
            yield Mismatch("I4", f"request {each.id} of a dead process: still held", 0, each.amount)


def check_costs(records: RecordsSnapshot) -> Iterator[Mismatch]:
    for id, expected, actual in records.wrong_costs:
        yield Mismatch("price", f"record {id}: cost of its tokens", expected, actual)


def check_rollups(snapshot: LedgerSnapshot) -> Iterator[Mismatch]:
    zeros = (0,) * len(ROLLUP_COLUMNS)
    record_sums, rollup_sums = snapshot.records.record_sums, snapshot.records.rollup_sums
    for rollup_key in sorted(record_sums.keys() | rollup_sums.keys(), key=str):
        day, key, model, provider = rollup_key
        name = f"project {snapshot.project_id}, {day}, key {key}, {model!r} of {provider!r}"
        for column, expected, actual in zip(
            ROLLUP_COLUMNS,
            record_sums.get(rollup_key, zeros),
            rollup_sums.get(rollup_key, zeros),
            strict=True,
        ):
            if expected != actual:
                yield Mismatch("roll-up", f"{name}: {column}", expected, actual)

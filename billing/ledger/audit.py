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

from billing.ledger.entry import Entry
from billing.ledger.windows import days_of
from billing.models import Budget, Mode
from billing.models.usage import SUMS

LAST_AUDIT = "ledger-audit"
"""Where the last scheduled audit has left the number of differences, and when it ended in seconds since the epoch, for the metrics."""
PROPAGATION = timedelta(seconds=2)
"""How long a request may still be admitted under a limit that has been changed."""

Group = tuple[date, int | None, str, str]
"""What one row of a roll-up sums up: a day, a key, the model that was asked, and its provider."""
Sums = tuple[int, ...]
"""Of a group, in the order of SUMMED."""
SUMMED = tuple(SUMS)


@dataclass(frozen=True, slots=True)
class Difference:
    """Amounts, or words where something is no number at all."""

    rule: str
    subject: str
    expected: int | str
    found: int | str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Overrun:
    """A hard budget of which more is spent or held than its limit, because requests were admitted while Redis was away. The operator
    allows this with `GATEWAY_REDIS_DOWN_BUDGETS=open`. Amounts are nano-USD."""

    subject: str
    limit: int
    taken: int

    def __str__(self) -> str:
        beyond = self.taken - self.limit
        return f"allowed: {self.subject}: {beyond} of the {self.taken} spent and reserved was admitted while Redis was away"


@dataclass(frozen=True, slots=True)
class Window:
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
class Held:
    """An open reservation, and the windows that it counts in. `orphaned`: its owner is dead, and it should be gone by now. `unchecked`: it
    was admitted while Redis was away."""

    id: UUID
    key_id: int
    day: date
    created_at: datetime
    amount: int
    windows: frozenset[tuple[int, str]]
    orphaned: bool
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent by a key on a day: by its records, or by an event that is not in the database yet. `over` is by how much
    requests that were checked cost more than was held for them."""

    key_id: int | None
    day: date
    cost: int
    over: int = 0


@dataclass
class Records:
    """What the database says of a project's requests.

    `early`: what those that came before the limit of a window's budget was changed have spent in it, where it is beyond the limit.
    `unchecked`: what those that were admitted while Redis was away have spent or hold in a window that is beyond its limit.
    `ended`: those of which there is a record or an event, out of those that hold something. `late`: late corrections by record, where
    there are several. `missing`: records that are corrected without being there. `charged`: id, cost by tokens and price, and cost, where
    these are not the same. `sums` and `rows`: what the records of each group are, and what the roll-up says.
    """

    spends: list[Spend] = field(default_factory=list)
    early: dict[tuple[int, str], int] = field(default_factory=dict)
    unchecked: dict[tuple[int, str], int] = field(default_factory=dict)
    ended: set[UUID] = field(default_factory=set)
    late: dict[UUID, int] = field(default_factory=dict)
    missing: list[UUID] = field(default_factory=list)
    charged: list[tuple[UUID, int, int]] = field(default_factory=list)
    sums: dict[Group, Sums] = field(default_factory=dict)
    rows: dict[Group, Sums] = field(default_factory=dict)


@dataclass
class State:
    """The books of a project, all as of one moment. `events` are records that the database does not have yet; `faults`, what is wrong
    at first sight. `waiting`: where so many records wait to be written that nothing is compared this time, how many they are."""

    project_id: int
    budgets: dict[int, Budget] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    events: list[Entry] = field(default_factory=list)
    records: Records = field(default_factory=Records)
    faults: list[Difference] = field(default_factory=list)
    waiting: int = 0


def differences(state: State) -> Iterator[Difference]:
    """All of them, in the order of the rules."""
    yield from state.faults
    for window, counted in counted_windows(state):
        yield from check_window(state, window, counted)
    yield from check_reserved(state)
    yield from check_named(state)
    yield from check_once(state.records)
    yield from check_held(state)
    yield from check_charged(state.records)
    yield from check_roll_ups(state)


def overruns(state: State) -> Iterator[Overrun]:
    """Return the windows that are beyond their limit, and may be."""
    for window, counted in counted_windows(state):
        limit = limit_of(state, window, counted)
        if limit is not None and limit < window.taken <= limit + state.records.unchecked.get(window.id, 0):
            yield Overrun(str(window), limit, window.taken)


def counted_windows(state: State) -> Iterator[tuple[Window, list[Spend]]]:
    """Return each window with what was spent on its days by what its budget covers."""
    spends = sorted([*state.records.spends, *map(spend_of, state.events)], key=attrgetter("day"))
    for window in state.windows:
        budget = state.budgets[window.budget_id]
        yield window, [spend for spend in of_days(spends, *days_of(window.name)) if budget.key_id in (None, spend.key_id)]


def covers(budget: Budget, window: str, one: Entry | Held) -> bool:
    """Whether what was spent or held belongs to a window."""
    first, last = days_of(window)
    return first <= one.day <= last and budget.key_id in (None, one.key_id)


def of_days(spends: list[Spend], first: date, last: date) -> list[Spend]:
    """Out of those in the order of their days: there are as many windows as days, and each has few of them."""
    return spends[bisect_left(spends, first, key=attrgetter("day")) : bisect_right(spends, last, key=attrgetter("day"))]


def check_window(state: State, window: Window, counted: list[Spend]) -> Iterator[Difference]:
    spent = sum(spend.cost for spend in counted)
    if window.spent != spent:
        yield Difference("I5", f"{window}: spent", spent, window.spent)
    limit = limit_of(state, window, counted)
    if limit is not None and window.taken > (allowed := limit + state.records.unchecked.get(window.id, 0)):
        yield Difference("I1", f"{window}: spent and reserved, at most", allowed, window.taken)


def limit_of(state: State, window: Window, counted: list[Spend]) -> int | None:
    """Return the most that requests whose budgets were checked may have spent and hold; None if the budget refuses nothing."""
    budget = state.budgets[window.budget_id]
    if budget.mode != Mode.HARD:
        return None
    limit = budget.limit_nano + sum(spend.over for spend in counted)
    return max(limit, taken_early(state, window, budget)) if window.taken > limit else limit


def spend_of(event: Entry) -> Spend:
    """A correction holds nothing."""
    over = 0 if event.unchecked else max(event.cost_nano - (event.held_nano or 0), 0)
    return Spend(event.key_id, event.day, event.cost_nano, over)


def taken_early(state: State, window: Window, budget: Budget) -> int:
    """What requests have spent, or hold, that came before the limit was changed. A limit that was set lower than that already admits
    nothing more, and stays passed."""
    changed = budget.changed_at + PROPAGATION
    spent = (event.cost_nano for event in state.events if event.created_at < changed and covers(budget, window.name, event))
    held = (each.amount for each in state.held if each.created_at < changed and window.id in each.windows)
    return state.records.early.get(window.id, 0) + sum(spent) + sum(held)


def check_reserved(state: State) -> Iterator[Difference]:
    expected = Counter[tuple[int, str]]()
    for reservation in state.held:
        for id in reservation.windows:
            expected[id] += reservation.amount
    for window in state.windows:
        if window.reserved != expected[window.id]:
            yield Difference("I2", f"{window}: reserved", expected[window.id], window.reserved)


def check_named(state: State) -> Iterator[Difference]:
    """What a request costs is counted where it holds something: it must hold it in every open window that covers it."""
    for window in state.windows:
        budget = state.budgets[window.budget_id]
        for each in state.held:
            if each.amount and window.id not in each.windows and covers(budget, window.name, each):
                yield Difference("I2", f"request {each.id}: held in {window}", each.amount, 0)


def check_once(records: Records) -> Iterator[Difference]:
    """A request has one record, which is its id's; what is left to check are its corrections."""
    for id, count in records.late.items():
        yield Difference("I3", f"record {id}: late corrections, at most", 1, count)
    for id in records.missing:
        yield Difference("I3", f"record {id} is corrected: records of it", 1, 0)


def check_held(state: State) -> Iterator[Difference]:
    for each in state.held:
        if each.id in state.records.ended:
            yield Difference("I3", f"request {each.id} is settled: still held", 0, each.amount)
        elif each.orphaned:
            yield Difference("I4", f"request {each.id} of a dead process: still held", 0, each.amount)


def check_charged(records: Records) -> Iterator[Difference]:
    for id, expected, found in records.charged:
        yield Difference("price", f"record {id}: cost of its tokens", expected, found)


def check_roll_ups(state: State) -> Iterator[Difference]:
    nothing = (0,) * len(SUMMED)
    sums, rows = state.records.sums, state.records.rows
    for group in sorted(sums.keys() | rows.keys(), key=str):
        day, key, model, provider = group
        name = f"project {state.project_id}, {day}, key {key}, {model!r} of {provider!r}"
        for column, expected, found in zip(SUMMED, sums.get(group, nothing), rows.get(group, nothing), strict=True):
            if expected != found:
                yield Difference("roll-up", f"{name}: {column}", expected, found)

"""Whether the books add up: the ledger's invariants, checked against the records that they came from.

The rules bear the names of `docs/ledger.md`. Amounts are nano-USD.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from django.db.models import Count, Exists, F, OuterRef, Sum
from django.db.models.functions import Coalesce, Greatest

from billing.ledger.entry import Entry
from billing.ledger.windows import days_of
from billing.models import Budget, Correction, DailyUsage, DirtyDay, Mode, UsageRecord

DIFFERENCES = "ledger-differences"
"""Where the last scheduled audit has left their number, for the metrics."""
PROPAGATION = timedelta(seconds=2)
"""How long a request may still be admitted under a limit that has been changed."""


@dataclass(frozen=True, slots=True)
class Difference:
    rule: str
    subject: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Window:
    budget_id: int
    name: str
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class Held:
    """An open reservation, and the windows that it counts in. `orphaned`: its owner is dead, and it should be gone by now."""

    id: UUID
    amount: int
    windows: frozenset[tuple[int, str]]
    orphaned: bool


@dataclass(frozen=True, slots=True)
class Spend:
    """What was spent by a key on a day: by its records, or by an event that is not in the database yet. `over` is by how much
    requests cost more than was held for them."""

    project_id: int
    key_id: int
    day: date
    cost: int
    over: int = 0


@dataclass
class State:
    """What a store says, and the records, all as of one moment."""

    windows: list[Window]
    held: list[Held]
    spends: list[Spend] = field(default_factory=list)


def recorded_spends(project_id: int | None = None) -> list[Spend]:
    records = UsageRecord.objects.all() if project_id is None else UsageRecord.objects.filter(project=project_id)
    over = Greatest(F("cost_nano") - Coalesce("held_nano", 0), 0)
    rows = records.values_list("project_id", "key_id", "day").annotate(cost=Sum("cost_nano"), over=Sum(over)).order_by()
    return [Spend(*row) for row in rows]


def over(entry: Entry) -> int:
    """By how much a request cost more than was held for it; a correction holds nothing."""
    return max(entry.cost_nano - (entry.held_nano or 0), 0)


def differences(state: State) -> Iterator[Difference]:
    """All of them, in the order of the rules."""
    budgets = {budget.pk: budget for budget in Budget.objects.all()}
    windows = [window for window in state.windows if window.budget_id in budgets]
    by_project: defaultdict[int, list[Spend]] = defaultdict(list)
    for spend in state.spends:
        by_project[spend.project_id].append(spend)
    for window in windows:
        budget = budgets[window.budget_id]
        yield from check_window(window, budget, list(within(window, budget, by_project[budget.project_id])))
    yield from check_reserved(windows, state.held)
    yield from check_once()
    yield from check_held(state.held)
    yield from check_roll_ups()


def within(window: Window, budget: Budget, spends: Iterable[Spend]) -> Iterator[Spend]:
    first, last = days_of(window.name)
    return (spend for spend in spends if first <= spend.day <= last and budget.key_id in (None, spend.key_id))


def check_window(window: Window, budget: Budget, spends: list[Spend]) -> Iterator[Difference]:
    name = f"budget {budget.pk}, window {window.name}"
    spent = sum(spend.cost for spend in spends)
    if window.spent != spent:
        yield Difference("I5", f"{name}: spent", spent, window.spent)
    taken, allowed = window.spent + window.reserved, budget.limit_nano + sum(spend.over for spend in spends)
    if budget.mode == Mode.HARD and taken > allowed and taken > (earlier := spent_before_change(budget, window)):
        yield Difference("I1", f"{name}: spent and reserved, at most", max(allowed, earlier), taken)


def spent_before_change(budget: Budget, window: Window) -> int:
    """A limit that was set lower than what was spent already admits nothing more, and stays passed."""
    first, last = days_of(window.name)
    records = UsageRecord.objects.filter(
        project=budget.project_id, day__range=(first, last), created_at__lt=budget.changed_at + PROPAGATION
    )
    if budget.key_id is not None:
        records = records.filter(key=budget.key_id)
    total: int = records.aggregate(total=Sum("cost_nano", default=0))["total"]
    return total


def check_reserved(windows: list[Window], held: list[Held]) -> Iterator[Difference]:
    expected = Counter[tuple[int, str]]()
    for reservation in held:
        for window_of in reservation.windows:
            expected[window_of] += reservation.amount
    for window in windows:
        if window.reserved != expected[window.budget_id, window.name]:
            name = f"budget {window.budget_id}, window {window.name}: reserved"
            yield Difference("I2", name, expected[window.budget_id, window.name], window.reserved)


def check_once() -> Iterator[Difference]:
    """A request has one record, which is its id's; what is left to check are its corrections."""
    corrections = UsageRecord.objects.exclude(corrects=None)
    late = corrections.filter(correction=Correction.LATE).values_list("corrects").annotate(count=Count("id")).order_by()
    for id, count in late.filter(count__gt=1):
        yield Difference("I3", f"record {id}: late corrections, at most", 1, count)
    of_nothing = corrections.filter(~Exists(UsageRecord.objects.filter(pk=OuterRef("corrects"))))
    for id in of_nothing.values_list("corrects", flat=True).distinct().order_by():
        yield Difference("I3", f"record {id} is corrected: records of it", 1, 0)


def check_held(held: list[Held]) -> Iterator[Difference]:
    ended = set(UsageRecord.objects.filter(pk__in=[each.id for each in held]).values_list("pk", flat=True))
    for each in held:
        if each.id in ended:
            yield Difference("I3", f"request {each.id} is settled: still held", 0, each.amount)
        elif each.orphaned:
            yield Difference("I4", f"request {each.id} of a dead process: still held", 0, each.amount)


def check_roll_ups() -> Iterator[Difference]:
    """Days that are marked as dirty are about to be summed again."""
    dirty = set(DirtyDay.objects.values_list("project_id", "day"))
    sums = {
        (project, day): cost
        for project, day, cost in UsageRecord.objects.values_list("project_id", "day").annotate(Sum("cost_nano")).order_by()
    }
    rows = {
        (project, day): cost
        for project, day, cost in DailyUsage.objects.values_list("project_id", "day").annotate(Sum("cost_nano")).order_by()
    }
    for project, day in sorted((sums.keys() | rows.keys()) - dirty):
        if sums.get((project, day), 0) != rows.get((project, day), 0):
            yield Difference("roll-up", f"project {project}, {day}", sums.get((project, day), 0), rows.get((project, day), 0))

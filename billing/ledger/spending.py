"""What is spent and held in budgets' windows, for pages and endpoints: read outside the event loop."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator

from django.conf import settings
from django.db.models import Sum

from billing.ledger.redis import reader
from billing.ledger.steps import decode_draft
from billing.ledger.terms import Spending
from billing.ledger.windows import days_of, window_name
from billing.models import Budget, BudgetWindow, Reservation, UsageRecord
from projects.models import Project

Share = tuple[int | None, dt.date, int]
"""A key, a day, and an amount in nano-USD."""


def spending(project: Project, budgets: Iterable[Budget], day: dt.date | None = None) -> dict[int, Spending]:
    """By budget, in the windows that a day (today, where none is given) falls into. Raises LedgerUnavailable."""
    day = day or project.today()
    names = {budget: window_name(budget.period, day) for budget in budgets}
    found = opened(project, {budget.pk: name for budget, name in names.items()})
    unopened = {name: begun(project, name) for name in {name for budget, name in names.items() if budget.pk not in found}}
    return {budget.pk: found.get(budget.pk) or of_owner(unopened[name], budget) for budget, name in names.items()}


def opened(project: Project, names: dict[int, str]) -> dict[int, Spending]:
    """The windows that requests have asked of, where the ledger keeps them."""
    if settings.ENV.redis_url:
        windows = reader.spending(project.pk, list(names.items()))
        return {id: window for id, window in zip(names, windows, strict=True) if window is not None}
    rows = BudgetWindow.objects.filter(budget__in=names, name__in=set(names.values()))
    return {row.budget_id: Spending(row.spent_nano, row.reserved_nano) for row in rows if names[row.budget_id] == row.name}


def begun(project: Project, window: str) -> dict[int | None, Spending]:
    """What a window that no request has asked of yet will start with, by key: what the records of its days have cost, and
    what is held for requests under way."""
    first, last = days_of(window)
    records = UsageRecord.objects.for_project(project).filter(day__range=(first, last))
    spent = Counter(dict(records.values_list("key").annotate(Sum("cost_nano")).order_by()))
    held: Counter[int | None] = Counter()
    for key, day, amount in waiting(project):
        spent[key] += amount if first <= day <= last else 0
    for key, day, amount in under_way(project):
        held[key] += amount if first <= day <= last else 0
    return {key: Spending(spent[key], held[key]) for key in spent.keys() | held.keys()}


def waiting(project: Project) -> Iterator[Share]:
    """Records that are on their way to the database."""
    if settings.ENV.redis_url:
        entries = [entry for _, entry in reader.undrained(project.pk)]
        kept = set(UsageRecord.objects.filter(pk__in=[entry.id for entry in entries]).values_list("pk", flat=True))
        yield from ((entry.key_id, entry.day, entry.cost_nano) for entry in entries if entry.id not in kept)


def under_way(project: Project) -> Iterator[Share]:
    if settings.ENV.redis_url:
        yield from ((held.key_id, held.day, held.amount) for held in reader.reservations(project.pk))
    else:
        for row in Reservation.objects.filter(project=project):
            yield row.key_id, decode_draft(row.draft).day, row.amount_nano


def of_owner(by_key: dict[int | None, Spending], budget: Budget) -> Spending:
    if budget.key_id is not None:
        return by_key.get(budget.key_id, Spending())
    return Spending(sum(each.spent for each in by_key.values()), sum(each.reserved for each in by_key.values()))

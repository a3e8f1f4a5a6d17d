"""What is spent and held in budgets' windows, for pages and endpoints: read outside the event loop."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable

from django.db.models import Sum

from billing.ledger.steps import decode_draft
from billing.ledger.terms import Spending
from billing.ledger.windows import days_of, window_name
from billing.models import Budget, BudgetWindow, Reservation, UsageRecord
from projects.models import Project


def spending(project: Project, budgets: Iterable[Budget], day: dt.date | None = None) -> dict[int, Spending]:
    """By budget, in the windows that a day (today, where none is given) falls into."""
    day = day or project.today()
    names = {budget: window_name(budget.period, day) for budget in budgets}
    windows = BudgetWindow.objects.filter(budget__in=names, name__in=set(names.values()))
    found = {(window.budget_id, window.name): Spending(window.spent_nano, window.reserved_nano) for window in windows}
    unopened = {name: begun(project, name) for name in {name for budget, name in names.items() if (budget.pk, name) not in found}}
    return {budget.pk: found.get((budget.pk, name)) or of_owner(unopened[name], budget) for budget, name in names.items()}


def begun(project: Project, window: str) -> dict[int | None, Spending]:
    """What a window that no request has asked of yet will start with, by key: what the records of its days have cost, and
    what is held for requests under way."""
    first, last = days_of(window)
    records = UsageRecord.objects.for_project(project).filter(day__range=(first, last))
    spent = Counter(dict(records.values_list("key").annotate(Sum("cost_nano")).order_by()))
    held: Counter[int | None] = Counter()
    for reservation in Reservation.objects.filter(project=project):
        if first <= decode_draft(reservation.draft).day <= last:
            held[reservation.key_id] += reservation.amount_nano
    return {key: Spending(spent[key], held[key]) for key in spent.keys() | held.keys()}


def of_owner(by_key: dict[int | None, Spending], budget: Budget) -> Spending:
    if budget.key_id is not None:
        return by_key.get(budget.key_id, Spending())
    return Spending(sum(each.spent for each in by_key.values()), sum(each.reserved for each in by_key.values()))

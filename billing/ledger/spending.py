"""What is spent and held in budgets' windows, for pages and endpoints: read outside the event loop."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from billing.ledger.redis import reader
from billing.ledger.steps import decode_draft
from billing.ledger.terms import Spending
from billing.ledger.windows import days_of, window_name
from billing.models import Budget, BudgetWindow, Reservation, UsageRecord
from projects.models import Project


class Share(NamedTuple):
    """What a request costs or holds, in nano-USD."""

    key: int | None
    day: dt.date
    amount: int


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
    what is held for requests under way. The latter is read first, then records that wait, then those that are kept: what moves on
    meanwhile is met again further on, and each request counts once."""
    first, last = days_of(window)
    held = {id: share for id, share in under_way(project) if first <= share.day <= last}
    ended = {id: share for id, share in waiting(project) if first <= share.day <= last}
    records = UsageRecord.objects.for_project(project).filter(day__range=(first, last))
    met = held | ended
    spent = Counter(dict(records.exclude(pk__in=met).values_list("key").annotate(Sum("cost_nano")).order_by()))
    ended |= {row.pk: Share(row.key_id, row.day, row.cost_nano) for row in records.filter(pk__in=met).only("key", "day", "cost_nano")}
    for share in ended.values():
        spent[share.key] += share.amount
    reserved: Counter[int | None] = Counter()
    for id in held.keys() - ended.keys():
        reserved[held[id].key] += held[id].amount
    return {key: Spending(spent[key], reserved[key]) for key in spent.keys() | reserved.keys()}


def waiting(project: Project) -> Iterator[tuple[UUID, Share]]:
    """Records that are on their way to the database."""
    if settings.ENV.redis_url:
        for entry in reader.undrained(project.pk):
            yield entry.id, Share(entry.key_id, entry.day, entry.cost_nano)


def under_way(project: Project) -> Iterator[tuple[UUID, Share]]:
    """What is held, by the id of the record that it will be."""
    if settings.ENV.redis_url:
        for held in reader.reservations(project.pk):
            yield held.id, Share(held.key_id, held.day, held.amount)
    else:
        for row in Reservation.objects.filter(project=project):
            yield row.pk, Share(row.key_id, decode_draft(row.draft).day, row.amount_nano)


def of_owner(by_key: dict[int | None, Spending], budget: Budget) -> Spending:
    if budget.key_id is not None:
        return by_key.get(budget.key_id, Spending())
    return Spending(sum(each.spent for each in by_key.values()), sum(each.reserved for each in by_key.values()))

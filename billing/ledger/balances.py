"""What is spent and held in budgets' windows, for pages and endpoints: read outside the event loop."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db.models import Sum

from billing.budgets.windows import window_days, window_name
from billing.ledger.interface import WindowBalance
from billing.ledger.redis import reader
from billing.ledger.usage_entry import decode_entry
from billing.models import Budget, BudgetWindow, Reservation, UsageRecord
from projects.models import Project


class Amount(NamedTuple):
    """What a request costs or holds, in nano-USD."""

    key: int | None
    day: dt.date
    amount: int


def window_balances(
    project: Project, budgets: Iterable[Budget], day: dt.date | None = None
) -> dict[int, WindowBalance]:
    """By budget, in the windows that a day (today, where none is given) falls into. Raises LedgerUnavailable."""
    day = day or project.today()
    names = {budget: window_name(budget.period, day) for budget in budgets}
    found = open_window_balances(project, {budget.pk: name for budget, name in names.items()})
    unopened_balances = {
        name: compute_unopened_window(project, name)
        for name in {name for budget, name in names.items() if budget.pk not in found}
    }
    return {
        budget.pk: found.get(budget.pk) or balance_for(unopened_balances[name], budget)
        for budget, name in names.items()
    }


def open_window_balances(project: Project, names: dict[int, str]) -> dict[int, WindowBalance]:
    """The windows that requests have asked of, where the ledger keeps them."""
    if settings.ENV.redis_url:
        windows = reader.window_balances(project.pk, list(names.items()))
        return {id: window for id, window in zip(names, windows, strict=True) if window is not None}
    rows = BudgetWindow.objects.filter(budget__in=names, name__in=set(names.values()))
    return {
        row.budget_id: WindowBalance(row.spent_nano, row.reserved_nano)
        for row in rows
        if names[row.budget_id] == row.name
    }


def compute_unopened_window(project: Project, window: str) -> dict[int | None, WindowBalance]:
    """What a window that no request has asked of yet will start with, by key: what the records of its days have cost, and
    what is held for requests under way. The latter is read first, then records that wait, then those that are kept: what moves on
    meanwhile is met again further on, and each request counts once.
    """
    first, last = window_days(window)
    reservations = {id: share for id, share in open_reservations(project) if first <= share.day <= last}
    settled = {id: share for id, share in undrained_records(project) if first <= share.day <= last}
    records = UsageRecord.objects.for_project(project).filter(day__range=(first, last))
    seen = reservations | settled
    spent = Counter(
        dict(records.exclude(pk__in=seen).values_list("key").annotate(Sum("cost_nano")).order_by())
    )
    settled |= {
        row.pk: Amount(row.key_id, row.day, row.cost_nano)
        for row in records.filter(pk__in=seen).only("key", "day", "cost_nano")
    }
    for share in settled.values():
        spent[share.key] += share.amount
    reserved: Counter[int | None] = Counter()
    for id in reservations.keys() - settled.keys():
        reserved[reservations[id].key] += reservations[id].amount
    return {key: WindowBalance(spent[key], reserved[key]) for key in spent.keys() | reserved.keys()}


def undrained_records(project: Project) -> Iterator[tuple[UUID, Amount]]:
    """Records that are on their way to the database."""
    if settings.ENV.redis_url:
        for entry in reader.undrained_records(project.pk):
            yield entry.id, Amount(entry.key_id, entry.day, entry.cost_nano)


def open_reservations(project: Project) -> Iterator[tuple[UUID, Amount]]:
    """What is held, by the id of the record that it will be."""
    if settings.ENV.redis_url:
        for held in reader.reservations(project.pk):
            yield held.id, Amount(held.key_id, held.day, held.amount)
    else:
        for row in Reservation.objects.filter(project=project):
            yield row.pk, Amount(row.key_id, decode_entry(row.estimate).day, row.amount_nano)


def balance_for(by_key: dict[int | None, WindowBalance], budget: Budget) -> WindowBalance:
    if budget.key_id is not None:
        return by_key.get(budget.key_id, WindowBalance())
    return WindowBalance(
        sum(each.spent for each in by_key.values()), sum(each.reserved for each in by_key.values())
    )

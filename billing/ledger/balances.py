"""Spent and reserved amounts of budget windows, for the dashboard, endpoints and alerts."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Mapping

from django.db.models import QuerySet, Sum

from billing.budgets.windows import window_days, window_name
from billing.ledger.interface import Amount, WindowBalance
from billing.ledger.reader import current_reader
from billing.models import ArchivedUsage, Budget, UsageRecord
from projects.models import Project


def window_balances(
    project: Project, budgets: Iterable[Budget], day: dt.date | None = None
) -> dict[int, WindowBalance]:
    """Return, by budget id, the balances in the windows that contain a day (default: today).

    Raises LedgerUnavailable.
    """
    day = day or project.today()
    names = {budget: window_name(budget.period, day) for budget in budgets}
    balances = open_window_balances(project, {budget.pk: name for budget, name in names.items()})
    unopened = {name for budget, name in names.items() if budget.pk not in balances}
    by_key = {name: compute_unopened_window(project, name) for name in unopened}
    return {
        budget.pk: balances.get(budget.pk) or balance_for(by_key[name], budget)
        for budget, name in names.items()
    }


def open_window_balances(project: Project, names: Mapping[int, str]) -> dict[int, WindowBalance]:
    """Return, by budget id, the balances of windows that requests have opened. Omit all other windows.

    `names` maps budget ids to names of windows. Raises LedgerUnavailable.
    """
    return current_reader().window_balances(project.pk, names)


def compute_unopened_window(project: Project, window: str) -> dict[int | None, WindowBalance]:
    """Return, by key, the balances that a window will have when its first request opens it.

    The spent amount is the sum over the records of the window's days, including deleted ones. The
    reserved amount is the sum over the open reservations of these days.

    A request is first a reservation, then an undrained record, then a record in the database. The function
    reads the three in this order, so it cannot miss a request that changes its state meanwhile. It can see
    such a request twice, and then counts only the later state.
    """
    first, last = window_days(window)
    reader = current_reader()
    reserved = {
        id: amount for id, amount in reader.open_reservations(project.pk) if first <= amount.day <= last
    }
    settled = {
        id: amount for id, amount in reader.undrained_records(project.pk) if first <= amount.day <= last
    }
    records = UsageRecord.objects.for_project(project).filter(day__range=(first, last))
    archived = ArchivedUsage.objects.filter(project=project, day__range=(first, last))
    seen = reserved | settled
    spent = sum_costs(records.exclude(pk__in=seen), archived)
    settled |= {
        row.pk: Amount(row.key_id, row.day, row.cost_nano)
        for row in records.filter(pk__in=seen).only("key", "day", "cost_nano")
    }
    spent.update(sum_by_key(settled.values()))
    open_by_key = sum_by_key(reserved[id] for id in reserved.keys() - settled.keys())
    return {key: WindowBalance(spent[key], open_by_key[key]) for key in spent.keys() | open_by_key.keys()}


def sum_costs(records: QuerySet[UsageRecord], archived: QuerySet[ArchivedUsage]) -> Counter[int | None]:
    """Return the cost by key.

    One statement reads both tables, because a deletion moves amounts between them.
    """
    by_key: Counter[int | None] = Counter()
    costs, archived_costs = (
        rows.order_by().values_list("key").annotate(Sum("cost_nano")) for rows in (records, archived)
    )
    for key_id, cost in costs.union(archived_costs, all=True):
        by_key[key_id] += int(cost)
    return by_key


def sum_by_key(amounts: Iterable[Amount]) -> Counter[int | None]:
    by_key: Counter[int | None] = Counter()
    for amount in amounts:
        by_key[amount.key_id] += amount.nano
    return by_key


def balance_for(by_key: Mapping[int | None, WindowBalance], budget: Budget) -> WindowBalance:
    """Return the balance of the budget's key. For a project-wide budget, return the sum over all keys."""
    if budget.key_id is not None:
        return by_key.get(budget.key_id, WindowBalance())
    balances = by_key.values()
    return WindowBalance(sum(each.spent for each in balances), sum(each.reserved for each in balances))

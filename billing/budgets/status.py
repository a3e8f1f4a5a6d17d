"""Budgets as people and programs read them: what is spent, held and left of each right now, and when it begins anew."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from billing.budgets.windows import ends_at, window_name
from billing.ledger.balances import window_balances
from billing.models import Budget
from projects.models import Project


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in its current window. Money is nano-USD; `resets_at` is UTC, None where the window never ends."""

    budget: Budget
    window: str
    spent: int
    reserved: int
    resets_at: dt.datetime | None

    @property
    def remaining(self) -> int:
        """Never less than nothing: budgets that only warn may be overdrawn."""
        return max(self.budget.limit_nano - self.spent - self.reserved, 0)

    @property
    def used_fraction(self) -> float:
        """Of a limit of nothing, everything is used."""
        return (self.spent + self.reserved) / self.budget.limit_nano if self.budget.limit_nano else 1.0


def list_statuses(project: Project) -> list[BudgetStatus]:
    """Those of the whole project first, then key by key."""
    today = project.today()
    budgets = list(Budget.objects.for_project(project))
    balances = window_balances(project, budgets, today)
    return [
        build_status(project, budget, today, balances[budget.pk].spent, balances[budget.pk].reserved)
        for budget in budgets
    ]


def build_status(project: Project, budget: Budget, day: dt.date, spent: int, reserved: int) -> BudgetStatus:
    window = window_name(budget.period, day)
    return BudgetStatus(budget, window, spent, reserved, ends_at(window, project.tzinfo))


def most_used(statuses: Iterable[BudgetStatus], count: int) -> list[BudgetStatus]:
    return sorted(statuses, key=lambda each: -each.used_fraction)[:count]

"""Budgets as people and programs read them: what is spent, held and left of each right now, and when it begins anew."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from billing.ledger.spending import spending
from billing.ledger.windows import ends_at, window_name
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
    def left(self) -> int:
        """Never less than nothing: budgets that only warn may be overdrawn."""
        return max(self.budget.limit_nano - self.spent - self.reserved, 0)

    @property
    def share(self) -> float:
        """Of a limit of nothing, everything is used."""
        return (self.spent + self.reserved) / self.budget.limit_nano if self.budget.limit_nano else 1.0


def statuses(project: Project) -> list[BudgetStatus]:
    """Those of the whole project first, then key by key."""
    today = project.today()
    budgets = list(Budget.objects.for_project(project))
    spent = spending(project, budgets, today)
    return [status(project, budget, today, spent[budget.pk].spent, spent[budget.pk].reserved) for budget in budgets]


def status(project: Project, budget: Budget, day: dt.date, spent: int, reserved: int) -> BudgetStatus:
    window = window_name(budget.period, day)
    return BudgetStatus(budget, window, spent, reserved, ends_at(window, project.zone))


def fullest(found: Iterable[BudgetStatus], count: int) -> list[BudgetStatus]:
    return sorted(found, key=lambda each: -each.share)[:count]

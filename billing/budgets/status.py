"""Budget status: the amounts spent, reserved and remaining now, and the time of the next reset."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from billing.budgets.windows import ends_at, window_name
from billing.ledger.balances import window_balances
from billing.models import Budget
from projects.models import Project


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget in its current window. Money is nano-USD; `resets_at` is UTC, None if it does not reset."""

    budget: Budget
    window: str
    spent: int
    reserved: int
    resets_at: dt.datetime | None

    @property
    def remaining(self) -> int:
        """The unused part of the limit, at least 0: a budget that only warns can be exceeded."""
        return max(self.budget.limit_nano - self.spent - self.reserved, 0)

    @property
    def used_fraction(self) -> float:
        """The used part of the limit. A limit of 0 counts as fully used."""
        return (self.spent + self.reserved) / self.budget.limit_nano if self.budget.limit_nano else 1.0


def list_statuses(project: Project) -> list[BudgetStatus]:
    """List the budgets of a project: those of the whole project first, then key by key."""
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

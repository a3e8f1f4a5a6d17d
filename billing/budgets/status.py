"""The status of budgets: spent, reserved and remaining amounts, and the time of the next reset."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from billing.budgets.windows import ends_at, window_name
from billing.ledger.balances import window_balances
from billing.models import Budget
from projects.models import Project


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """The status of a budget in its current window.

    Money is nano-USD. `resets_at` is UTC, or None if the budget does not reset.
    """

    budget: Budget
    window: str
    spent: int
    reserved: int
    resets_at: dt.datetime | None

    @property
    def remaining(self) -> int:
        """The unused part of the limit. It is 0 if the limit is exceeded, as soft budgets allow."""
        return max(self.budget.limit_nano - self.spent - self.reserved, 0)

    @property
    def used_fraction(self) -> float:
        """The spent and reserved part of the limit (1.0 is all of it). A limit of 0 counts as fully used."""
        return (self.spent + self.reserved) / self.budget.limit_nano if self.budget.limit_nano else 1.0


def list_statuses(project: Project) -> list[BudgetStatus]:
    """Return the status of each budget: first those of the whole project, then those of each key."""
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

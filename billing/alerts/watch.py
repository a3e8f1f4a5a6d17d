"""Finds budgets that have reached a threshold."""

import datetime as dt
from itertools import groupby
from operator import attrgetter

from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.ledger.spending import opened, spending
from billing.ledger.windows import window_name
from billing.models import Alert, Budget
from projects.models import Project

LOOK_BACK = dt.timedelta(hours=1)
"""What was spent just before midnight, or settled after it, still alerts."""


def raise_alerts() -> int:
    """Raises the alerts that are due in all projects; returns how many thresholds called for a message."""
    budgets = Budget.objects.exclude(thresholds=[]).select_related("project", "key").order_by("project", "pk")
    return sum(check(project, list(group)) for project, group in groupby(budgets, key=attrgetter("project")))


def check(project: Project, budgets: list[Budget]) -> int:
    now = timezone.now()
    raised = 0
    for day in {moment.astimezone(project.zone).date() for moment in (now - LOOK_BACK, now)}:
        names = {budget.pk: window_name(budget.period, day) for budget in budgets}
        windows = opened(project, names)
        # A window that is not open has been asked of by no request, unless its budget is younger than the requests.
        fresh = [budget for budget in budgets if budget.pk not in windows and budget.changed_at > now - LOOK_BACK]
        windows |= spending(project, fresh, day)
        raised += sum(raise_alert(budget, names[budget.pk], windows[budget.pk].spent) for budget in budgets if budget.pk in windows)
    return raised


def raise_alert(budget: Budget, window: str, spent: int) -> bool:
    """Keeps a row for each threshold that is reached, and tells the recipients of the highest alone, if it is new.

    Only what is spent counts: what is held for requests in flight may come back.
    """
    reached = [percent for percent in budget.thresholds if spent and spent * 100 >= percent * budget.limit_nano]
    if not reached or Alert.objects.filter(budget=budget, window=window, threshold=reached[-1]).exists():
        return False
    try:
        return open_alert(budget, window, spent, reached)
    except IntegrityError:
        # The budget was deleted in the meantime.
        return False


@transaction.atomic
def open_alert(budget: Budget, window: str, spent: int, reached: list[int]) -> bool:
    figures = {"spent_nano": spent, "limit_nano": budget.limit_nano, "created_at": timezone.now()}
    # The unique constraint decides between processes that find the same threshold at once.
    alert, is_new = Alert.objects.get_or_create(budget=budget, window=window, threshold=reached[-1], defaults=figures)
    if is_new:
        passed = [Alert(budget=budget, window=window, threshold=percent, **figures) for percent in reached[:-1]]
        Alert.objects.bulk_create(passed, ignore_conflicts=True)
        alert.notify()
    return is_new

"""Finds budgets that have reached a threshold, or have begun to refuse requests."""

import datetime as dt
from itertools import groupby
from operator import attrgetter

import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.ledger.spending import opened, spending
from billing.ledger.terms import LedgerUnavailable
from billing.ledger.windows import days_of, window_name
from billing.models import REFUSAL, Alert, Budget, Outcome, UsageRecord
from projects.ids import first_id
from projects.models import Project

LOOK_BACK = dt.timedelta(hours=1)
"""What was spent just before midnight, or settled after it, still alerts."""

log = structlog.get_logger()


def raise_alerts() -> int:
    """Raises the alerts that are due in all projects; returns how many thresholds called for a message."""
    budgets = Budget.objects.exclude(thresholds=[]).select_related("project", "key").order_by("project", "pk")
    by_project = [(project, list(group)) for project, group in groupby(budgets, key=attrgetter("project"))]
    return sum(check_project(project, group) for project, group in by_project)


def check_project(project: Project, budgets: list[Budget]) -> int:
    """What fails in one project keeps nothing back in the others; a store that is away fails in all of them."""
    try:
        return check(project, budgets) + check_refusals(project, budgets)
    except LedgerUnavailable:
        raise
    except Exception as error:
        log.error("the alerts of a project cannot be raised", project_id=project.pk, exc_info=error)
        return 0


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


def check_refusals(project: Project, budgets: list[Budget]) -> int:
    refused = UsageRecord.objects.for_project(project).filter(id__gte=first_id(timezone.now() - LOOK_BACK), outcome=Outcome.BUDGET)
    days = set(refused.values_list("refusing_budget_id", "day").distinct())
    refusals = {(budget, window_name(budget.period, day)) for budget in budgets for id, day in days if id == budget.pk}
    return sum(raise_refusal(project, budget, window) for budget, window in refusals)


def raise_refusal(project: Project, budget: Budget, window: str) -> bool:
    if Alert.objects.filter(budget=budget, window=window, threshold=REFUSAL).exists():
        return False
    spent = spending(project, [budget], days_of(window)[0])[budget.pk].spent
    return open_alert(budget, window, spent, [REFUSAL])


def raise_alert(budget: Budget, window: str, spent: int) -> bool:
    """Keeps a row for each threshold that is reached, and tells the recipients of the highest alone, if it is new.

    Only what is spent counts: what is held for requests in flight may come back.
    """
    reached = [percent for percent in budget.thresholds if spent and spent * 100 >= percent * budget.limit_nano]
    if not reached or Alert.objects.filter(budget=budget, window=window, threshold=reached[-1]).exists():
        return False
    return open_alert(budget, window, spent, reached)


def open_alert(budget: Budget, window: str, spent: int, reached: list[int]) -> bool:
    try:
        return keep_alert(budget, window, spent, reached)
    except IntegrityError:
        # The budget was deleted in the meantime.
        return False


@transaction.atomic
def keep_alert(budget: Budget, window: str, spent: int, reached: list[int]) -> bool:
    figures = {"spent_nano": spent, "limit_nano": budget.limit_nano, "created_at": timezone.now()}
    # The unique constraint decides between processes that find the same threshold at once.
    alert, is_new = Alert.objects.get_or_create(budget=budget, window=window, threshold=reached[-1], defaults=figures)
    if is_new:
        passed = [Alert(budget=budget, window=window, threshold=percent, **figures) for percent in reached[:-1]]
        Alert.objects.bulk_create(passed, ignore_conflicts=True)
        alert.notify()
    return is_new

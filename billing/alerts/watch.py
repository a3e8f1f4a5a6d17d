"""Finds budgets that have reached a threshold, or have begun to refuse requests."""

import datetime as dt
from itertools import groupby
from operator import attrgetter

import structlog
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.ledger.redis.opening import KEPT_AFTER_END
from billing.ledger.spending import opened, spending
from billing.ledger.terms import LedgerUnavailable
from billing.ledger.windows import days_of, window_name
from billing.models import REFUSAL, Alert, Budget, Mode, Outcome, UsageRecord
from projects.ids import first_id
from projects.models import Project

LATE = dt.timedelta(hours=1)
"""What was spent just before midnight, or settled after it, still alerts."""
FURTHEST = KEPT_AFTER_END
"""No look goes back further, however long ago the last one was: Redis has windows no longer than this."""
LAST_LOOK = "last-look-for-alerts"

log = structlog.get_logger()


def raise_alerts() -> int:
    """Raises the alerts that are due in all projects; returns how many thresholds called for a message.

    A look goes back to the last one that was completed, so that what happened while nobody looked alerts late, and not never.
    """
    now, raised, failed = timezone.now(), 0, {}
    looked_at, failed_since = cache.get(LAST_LOOK, (now - FURTHEST, {}))
    budgets = Budget.objects.exclude(thresholds=[]).select_related("project", "key").order_by("project", "pk")
    for project, group in groupby(budgets, key=attrgetter("project")):
        since = failed_since.get(project.pk, looked_at)
        try:
            raised += check_project(project, list(group), max(min(since, now) - LATE, now - FURTHEST))
        except LedgerUnavailable:
            # A store that is away fails in all projects.
            raise
        except Exception as error:
            # What fails in one project keeps nothing back in the others.
            log.error("the alerts of a project cannot be raised", project_id=project.pk, exc_info=error)
            failed[project.pk] = since
    cache.set(LAST_LOOK, (now, failed), timeout=FURTHEST.total_seconds())
    return raised


def check_project(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    return check(project, budgets, since) + check_refusals(project, budgets, since)


def check(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    now = timezone.now()
    first, recent, today = (moment.astimezone(project.zone).date() for moment in (since, now - LATE, now))
    raised = 0
    for day in (first + dt.timedelta(days=number) for number in range((today - first).days + 1)):
        # A threshold that was set since then says nothing about an earlier day.
        asked = [budget for budget in budgets if day >= recent or changed_on(budget, project) <= day]
        raised += check_day(project, asked, day, fresh_since=now - LATE)
    return raised


def changed_on(budget: Budget, project: Project) -> dt.date:
    return budget.changed_at.astimezone(project.zone).date()


def check_day(project: Project, budgets: list[Budget], day: dt.date, fresh_since: dt.datetime) -> int:
    names = {budget.pk: window_name(budget.period, day) for budget in budgets}
    windows = opened(project, names)
    # A window that is not open has been asked of by no request, unless its budget is younger than the requests.
    fresh = [budget for budget in budgets if budget.pk not in windows and budget.changed_at > fresh_since]
    windows |= spending(project, fresh, day)
    return sum(raise_alert(budget, names[budget.pk], windows[budget.pk].spent) for budget in budgets if budget.pk in windows)


def check_refusals(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    """Hard budgets refuse. A stream that was cut may name a shadow budget, which would have refused it when it came."""
    # Read from an index of refused requests alone.
    refused = UsageRecord.objects.for_project(project).filter(id__gte=first_id(since), outcome=Outcome.BUDGET)
    days = set(refused.values_list("refusing_budget_id", "day").distinct())
    hard = [budget for budget in budgets if budget.mode == Mode.HARD]
    refusals = {(budget, window_name(budget.period, day)) for budget in hard for id, day in days if id == budget.pk}
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

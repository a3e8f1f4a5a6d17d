"""Finds budgets that have reached a threshold, or have begun to refuse requests."""

import datetime as dt
from itertools import groupby
from operator import attrgetter

import structlog
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.budgets.windows import window_days, window_name
from billing.ledger.balances import open_window_balances, window_balances
from billing.ledger.interface import WINDOW_RETENTION, LedgerUnavailable
from billing.models import REFUSAL_THRESHOLD, Alert, Budget, Mode, Outcome, UsageRecord
from projects.ids import uuid7_floor
from projects.models import Project

LOOKBACK = dt.timedelta(hours=1)
"""What was spent just before midnight, or settled after it, still alerts."""
MAX_LOOKBACK = WINDOW_RETENTION
"""No look goes back further, however long ago the last one was: Redis has windows no longer than this."""
LAST_RUN_KEY = "last-look-for-alerts"

log = structlog.get_logger()


def detect_alerts() -> int:
    """Raises the alerts that are due in all projects; returns how many thresholds called for a message.

    A look goes back to the last one that was completed, so that what happened while nobody looked alerts late, and not never.
    """
    now, created, failed = timezone.now(), 0, {}
    last_run_at, failed_since = cache.get(LAST_RUN_KEY, (now - MAX_LOOKBACK, {}))
    budgets = Budget.objects.exclude(thresholds=[]).select_related("project", "key").order_by("project", "pk")
    for project, group in groupby(budgets, key=attrgetter("project")):
        since = failed_since.get(project.pk, last_run_at)
        try:
            created += detect_for_project(
                project, list(group), max(min(since, now) - LOOKBACK, now - MAX_LOOKBACK)
            )
        except LedgerUnavailable:
            # A store that is away fails in all projects.
            raise
        except Exception as error:
            # What fails in one project keeps nothing back in the others.
            log.error("the alerts of a project cannot be raised", project_id=project.pk, exc_info=error)
            failed[project.pk] = since
    cache.set(LAST_RUN_KEY, (now, failed), timeout=MAX_LOOKBACK.total_seconds())
    return created


def detect_for_project(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    return detect_thresholds(project, budgets, since) + detect_refusals(project, budgets, since)


def detect_thresholds(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    now = timezone.now()
    first, recent, today = (
        moment.astimezone(project.tzinfo).date() for moment in (since, now - LOOKBACK, now)
    )
    created = 0
    for day in (first + dt.timedelta(days=number) for number in range((today - first).days + 1)):
        # A threshold that was set since then says nothing about an earlier day.
        applicable = [
            budget for budget in budgets if day >= recent or local_change_date(budget, project) <= day
        ]
        created += detect_for_day(project, applicable, day, changed_since=now - LOOKBACK)
    return created


def local_change_date(budget: Budget, project: Project) -> dt.date:
    return budget.changed_at.astimezone(project.tzinfo).date()


def detect_for_day(project: Project, budgets: list[Budget], day: dt.date, changed_since: dt.datetime) -> int:
    names = {budget.pk: window_name(budget.period, day) for budget in budgets}
    windows = open_window_balances(project, names)
    # A window that is not open has been asked of by no request, unless its budget is younger than the requests.
    recently_changed = [
        budget for budget in budgets if budget.pk not in windows and budget.changed_at > changed_since
    ]
    windows |= window_balances(project, recently_changed, day)
    return sum(
        create_threshold_alert(budget, names[budget.pk], windows[budget.pk].spent)
        for budget in budgets
        if budget.pk in windows
    )


def detect_refusals(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    """Hard budgets refuse. A stream that was cut may name a shadow budget, which would have refused it when it came."""
    # Read from an index of refused requests alone.
    refused = UsageRecord.objects.for_project(project).filter(
        id__gte=uuid7_floor(since), outcome=Outcome.BUDGET_EXCEEDED
    )
    days = set(refused.values_list("blocking_budget_id", "day").distinct())
    hard = [budget for budget in budgets if budget.mode == Mode.HARD]
    refusals = {
        (budget, window_name(budget.period, day)) for budget in hard for id, day in days if id == budget.pk
    }
    return sum(create_refusal_alert(project, budget, window) for budget, window in refusals)


def create_refusal_alert(project: Project, budget: Budget, window: str) -> bool:
    if Alert.objects.filter(budget=budget, window=window, threshold=REFUSAL_THRESHOLD).exists():
        return False
    spent = window_balances(project, [budget], window_days(window)[0])[budget.pk].spent
    return create_alert(budget, window, spent, [REFUSAL_THRESHOLD])


def create_threshold_alert(budget: Budget, window: str, spent: int) -> bool:
    """Keeps a row for each threshold that is reached, and tells the recipients of the highest alone, if it is new.

    Only what is spent counts: what is held for requests in flight may come back.
    """
    reached = [
        percent for percent in budget.thresholds if spent and spent * 100 >= percent * budget.limit_nano
    ]
    if not reached or Alert.objects.filter(budget=budget, window=window, threshold=reached[-1]).exists():
        return False
    return create_alert(budget, window, spent, reached)


def create_alert(budget: Budget, window: str, spent: int, reached: list[int]) -> bool:
    try:
        return save_alert(budget, window, spent, reached)
    except IntegrityError:
        # The budget was deleted in the meantime.
        return False


@transaction.atomic
def save_alert(budget: Budget, window: str, spent: int, reached: list[int]) -> bool:
    values = {"spent_nano": spent, "limit_nano": budget.limit_nano, "created_at": timezone.now()}
    # The unique constraint decides between processes that find the same threshold at once.
    alert, is_new = Alert.objects.get_or_create(
        budget=budget, window=window, threshold=reached[-1], defaults=values
    )
    if is_new:
        lower_thresholds = [
            Alert(budget=budget, window=window, threshold=percent, **values) for percent in reached[:-1]
        ]
        Alert.objects.bulk_create(lower_thresholds, ignore_conflicts=True)
        alert.create_deliveries()
    return is_new

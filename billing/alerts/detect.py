"""Detect budgets that have reached a threshold or denied a request, and create their alerts."""

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
from billing.models import DENIAL_THRESHOLD, Alert, Budget, Mode, Outcome, UsageRecord
from projects.ids import uuid7_floor
from projects.models import Project

LOOKBACK = dt.timedelta(hours=1)
"""Each run also covers this much time before the start of the previous run.

The overlap is needed because a request may be settled after the end of its day.
"""
MAX_LOOKBACK = WINDOW_RETENTION
"""Maximum time that a run covers, even after a longer outage, because Redis deletes older windows."""
LAST_RUN_KEY = "alert-detection-last-run"

log = structlog.get_logger()


def detect_alerts() -> int:
    """Create the alerts that are due in all projects, and return how many of them send messages.

    A run covers the time since the last completed run, so an outage delays alerts but loses none (up to
    MAX_LOOKBACK). If detection fails for a project, the next run covers the same time again for this project.
    Raises LedgerUnavailable.
    """
    now, created, failed = timezone.now(), 0, {}
    last_run_at, failed_since = cache.get(LAST_RUN_KEY, (now - MAX_LOOKBACK, {}))
    budgets = Budget.objects.exclude(thresholds=[]).select_related("project", "key").order_by("project", "pk")
    for project, group in groupby(budgets, key=attrgetter("project")):
        since = failed_since.get(project.pk, last_run_at)
        try:
            lookback_start = max(min(since, now) - LOOKBACK, now - MAX_LOOKBACK)
            created += detect_for_project(project, list(group), lookback_start)
        except LedgerUnavailable:
            # The ledger would fail for every other project too.
            raise
        except Exception as error:
            log_failure(project, error)
            failed[project.pk] = since
    cache.set(LAST_RUN_KEY, (now, failed), timeout=MAX_LOOKBACK.total_seconds())
    return created


def log_failure(project: Project, error: Exception) -> None:
    log.error(
        "alert_detection_failed",
        message="The alerts of a project could not be detected. The next run tries them again.",
        project_id=project.pk,
        exc_info=error,
    )


def detect_for_project(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    return detect_thresholds(project, budgets, since) + detect_denials(project, budgets, since)


def detect_thresholds(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    now = timezone.now()
    first, recent, today = (
        moment.astimezone(project.tzinfo).date() for moment in (since, now - LOOKBACK, now)
    )
    created = 0
    for day in (first + dt.timedelta(days=number) for number in range((today - first).days + 1)):
        # For a day before the normal lookback, a budget that was changed after the end of that day gets no
        # alert.
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
    # The first request of a window opens it. If a budget is created or changed after requests were settled,
    # its window can have spending although no request has opened it. The spending is then summed from the
    # records.
    recently_changed = [
        budget for budget in budgets if budget.pk not in windows and budget.changed_at > changed_since
    ]
    windows |= window_balances(project, recently_changed, day)
    return sum(
        create_threshold_alert(budget, names[budget.pk], windows[budget.pk].spent)
        for budget in budgets
        if budget.pk in windows
    )


def detect_denials(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
    """Create an alert for the first denial of each hard budget in each window.

    If a hard budget aborts a stream, the record has the outcome BUDGET_EXCEEDED, but may name a shadow
    budget: the one that would have denied the request at admission. Such records create no alert.
    """
    # A partial index holds the records of denied requests.
    denied = UsageRecord.objects.for_project(project).filter(
        id__gte=uuid7_floor(since), outcome=Outcome.BUDGET_EXCEEDED
    )
    days = set(denied.values_list("blocking_budget_id", "day").distinct())
    hard = {budget.pk: budget for budget in budgets if budget.mode == Mode.HARD}
    denials = {
        (hard[budget_id], window_name(hard[budget_id].period, day))
        for budget_id, day in days
        if budget_id in hard
    }
    return sum(create_denial_alert(project, budget, window) for budget, window in denials)


def create_denial_alert(project: Project, budget: Budget, window: str) -> bool:
    if Alert.objects.filter(budget=budget, window=window, threshold=DENIAL_THRESHOLD).exists():
        return False
    spent = window_balances(project, [budget], window_days(window)[0])[budget.pk].spent
    return create_alert(budget, window, spent, [DENIAL_THRESHOLD])


def create_threshold_alert(budget: Budget, window: str, spent: int) -> bool:
    """Create an alert for each threshold that was reached, and return whether the highest of them is new.

    Only the alert of the highest threshold sends messages. Reserved amounts do not count, because they may be
    released.
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
    # If several processes detect the same threshold, the unique constraint lets only one create the alert.
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

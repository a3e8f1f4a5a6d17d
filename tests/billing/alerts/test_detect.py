"""Detection alerts late about events during its outage, and never about events that did not happen."""

import datetime as dt

import pytest
from django.core.cache import cache
from django.utils import timezone

from billing.alerts import detect
from billing.ledger import LedgerUnavailable
from billing.models import DENIAL_THRESHOLD, Alert, Budget, Mode, Outcome, Period, UsageRecord
from billing.tasks import detect_alerts
from keys.models import ApiKey
from projects.ids import uuid7_floor
from projects.models import Project, User
from tests.support.alerts import deny, spend, thresholds
from tests.support.factories import USD

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("counters_in_sql")]

HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = timezone.now().replace(hour=12, minute=0)

    def __call__(self) -> dt.datetime:
        return self.now


@pytest.fixture
def clock(budget: Budget, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock at noon, with a budget of 30 days ago, in a project whose timezone is UTC."""
    clock = Clock()
    monkeypatch.setattr(timezone, "now", clock)
    Budget.objects.update(changed_at=clock.now - 30 * DAY)
    return clock


def deny_at(budget: Budget, moment: dt.datetime) -> None:
    deny(budget, moment.date())
    UsageRecord.objects.filter(blocking_budget_id=budget.pk).update(id=uuid7_floor(moment))


def spend_at(budget: Budget, moment: dt.datetime, nano: int = 6 * USD) -> None:
    spend(budget, nano, moment.date())


def windows(budget: Budget) -> list[tuple[str, int]]:
    return sorted(Alert.objects.filter(budget=budget).values_list("window", "threshold"))


def test_missed_events_alert_late(budget: Budget, clock: Clock) -> None:
    detect_alerts()
    deny_at(budget, clock.now + HOUR)
    spend_at(budget, clock.now)
    day = clock.now.date().isoformat()
    clock.now += DAY + 6 * HOUR
    assert detect_alerts() == 2
    assert windows(budget) == [(day, DENIAL_THRESHOLD), (day, 50)]
    assert detect_alerts() == 0


def test_first_run_looks_back_over_retained_windows(budget: Budget, clock: Clock) -> None:
    """The time of the last run is lost if the cache is emptied."""
    deny_at(budget, clock.now - 47 * HOUR)
    spend_at(budget, clock.now - 47 * HOUR)
    assert detect_alerts() == 2


def test_events_older_than_the_lookback_never_alert(budget: Budget, clock: Clock) -> None:
    detect_alerts()
    deny_at(budget, clock.now)
    spend_at(budget, clock.now)
    clock.now += 3 * DAY
    assert detect_alerts() == 0


def test_regular_run_looks_back_one_hour(budget: Budget, clock: Clock) -> None:
    detect_alerts()
    deny_at(budget, clock.now - 2 * HOUR)
    spend_at(budget, clock.now - DAY)
    assert detect_alerts() == 0


def test_changed_budget_does_not_alert_for_earlier_days(budget: Budget, clock: Clock) -> None:
    spend_at(budget, clock.now - DAY)
    Budget.objects.update(changed_at=clock.now - HOUR)
    assert detect_alerts() == 0


def test_clock_set_back_does_not_skip_events(budget: Budget, clock: Clock) -> None:
    clock.now += 10 * DAY
    detect_alerts()
    clock.now -= 10 * DAY
    deny_at(budget, clock.now)
    assert detect_alerts() == 1


def test_failed_project_resumes_from_its_last_run(
    budget: Budget, clock: Clock, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Project.objects.create_with_owner("Other", owner=charlie)
    key = ApiKey.objects.issue(other, "theirs")[0]
    theirs = Budget.objects.create(project=other, key=key, period=Period.DAY, limit_nano=10 * USD)
    detect_alerts()
    for each in (budget, theirs):
        deny_at(each, clock.now + dt.timedelta(seconds=each.pk))
    clock.now += 5 * HOUR
    detect_thresholds = detect.detect_thresholds

    def fail(project: Project, budgets: list[Budget], since: dt.datetime) -> int:
        if project == other:
            raise RuntimeError("unexpected")
        return detect_thresholds(project, budgets, since)

    with monkeypatch.context() as broken:
        broken.setattr(detect, "detect_thresholds", fail)
        assert [detect_alerts(), detect_alerts()] == [1, 0]
    assert detect_alerts() == 1
    assert thresholds(theirs) == [DENIAL_THRESHOLD]


def test_interrupted_run_is_not_recorded(
    budget: Budget, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    detect_alerts()
    before = cache.get(detect.LAST_RUN_KEY)

    def fail(*_: object) -> int:
        raise LedgerUnavailable("down")

    clock.now += 5 * HOUR
    monkeypatch.setattr(detect, "detect_thresholds", fail)
    with pytest.raises(LedgerUnavailable):
        detect_alerts()
    assert cache.get(detect.LAST_RUN_KEY) == before


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.SOFT])
def test_only_hard_budgets_alert_denials(budget: Budget, mode: Mode) -> None:
    """Records may name a shadow budget: one that would have denied a stream that a hard budget aborts."""
    deny(budget)
    assert UsageRecord.objects.filter(outcome=Outcome.BUDGET_EXCEEDED, blocking_budget_id=budget.pk).exists()
    Budget.objects.update(mode=mode)
    assert detect_alerts() == 0
    Budget.objects.update(mode=Mode.HARD)
    assert detect_alerts() == 1


def test_budget_without_thresholds_does_not_alert_denials(budget: Budget) -> None:
    Budget.objects.update(thresholds=[])
    deny(budget)
    assert detect_alerts() == 0

"""Admins get one alert a month about a model without a price."""

import datetime as dt

import pytest

from billing.models import AdminAlert, Outcome, UsageRecord
from billing.tasks import alert_of_unpriced_models
from keys.models import ApiKey
from projects.models import Project
from tests.support.factories import record


@pytest.fixture
def unpriced(key: ApiKey) -> UsageRecord:
    return record(key, model="mystery-1")


def test_one_alert_a_month_for_each_model(project: Project, key: ApiKey, unpriced: UsageRecord) -> None:
    record(key, model="mystery-1")
    record(key, model="mystery-2")
    assert alert_of_unpriced_models() == 2
    assert alert_of_unpriced_models() == 0
    AdminAlert.objects.filter(subject="demo/mystery-1").update(occasion="2026-01")
    assert alert_of_unpriced_models() == 1
    alert = AdminAlert.objects.get(subject="demo/mystery-2")
    assert alert.title == "mystery-2 has no price"
    assert "Set the price on the page Prices" in alert.text
    assert alert.deliveries.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"price": {"base": {}}},
        {"outcome": Outcome.UPSTREAM_ERROR},
        {"input_tokens": 0, "output_tokens": 0},
        {"provider": ""},
    ],
)
def test_other_requests_do_not_alert(unpriced: UsageRecord, change: dict[str, object]) -> None:
    UsageRecord.objects.update(**change)
    assert alert_of_unpriced_models() == 0


def test_old_requests_and_deleted_projects_do_not_alert(unpriced: UsageRecord) -> None:
    old = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    UsageRecord.objects.filter(pk=unpriced.pk).update(project=10**9)
    assert alert_of_unpriced_models() == 0
    UsageRecord.objects.update(project=unpriced.project, id=f"{int(old.timestamp() * 1000):012x}{'0' * 20}")
    assert alert_of_unpriced_models() == 0

"""Webhooks and alerts over the REST API."""

import pytest

from billing.models import Alert, Delivery, Webhook
from projects.models import Project
from tests.support.api_client import ApiClient
from tests.support.factories import USD

PATH = "projects/acme/webhooks"
HOOK = {"name": "pager", "url": "https://example.org/hook?token=hidden"}


def test_the_secret_is_shown_once_and_the_url_never(owner_api: ApiClient, project: Project) -> None:
    created = owner_api.post(PATH, HOOK)
    assert created.status == 201 and created.data["secret"].startswith("whsec_")
    listed = owner_api.get(PATH)
    assert [each["host"] for each in listed.data] == ["example.org"]
    assert "hidden" not in str(listed.body) and "secret" not in listed.data[0]


@pytest.mark.parametrize(
    ("change", "field"),
    [({"url": "http://10.0.0.1/"}, "url"), ({"url": "mailto:a@b"}, "url"), ({"name": ""}, "name")],
)
def test_invalid_field_is_named(
    owner_api: ApiClient, project: Project, change: dict[str, object], field: str
) -> None:
    reply = owner_api.post(PATH, HOOK | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])


def test_a_test_message_is_queued(owner_api: ApiClient, project: Project) -> None:
    path = f"{PATH}/{owner_api.post(PATH, HOOK).data['id']}"
    assert owner_api.post(f"{path}/test").status == 200
    assert Delivery.objects.get().is_test


def test_a_deleted_webhook_is_gone(owner_api: ApiClient, project: Project) -> None:
    path = f"{PATH}/{owner_api.post(PATH, HOOK).data['id']}"
    assert owner_api.delete(path).status == 200
    assert not Webhook.objects.exists()


def test_alerts_are_listed_with_their_amounts(owner_api: ApiClient, project: Project) -> None:
    budget = project.budgets.create(period="day", limit_nano=USD)
    Alert.objects.create(
        budget=budget, window="2026-11-20", threshold=80, spent_nano=USD // 2, limit_nano=USD
    )
    (alert,) = owner_api.get("projects/acme/alerts").data["budgetAlerts"]
    assert (alert["budgetId"], alert["threshold"], alert["spent"], alert["limit"]) == (budget.pk, 80, 0.5, 1)

"""Admins get one alert, by e-mail, 30 days before a model in use retires."""

import datetime as dt

import pytest
from django.core import mail

from billing.models import AdminAlert, Delivery
from billing.tasks import deliver_alerts
from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.models import Credential, Route
from proxy.routing.retirement_alerts import alert_admins
from proxy.routing.routes import model_life
from tests.support.factories import daily

RETIREMENT = dt.date(2027, 1, 14)


@pytest.fixture
def credential(project: Project) -> Credential:
    return Credential.objects.create(project=project, slug="openai", provider="openai")


def run_on(monkeypatch: pytest.MonkeyPatch, day: dt.date) -> int:
    monkeypatch.setattr(model_life, "today", lambda: day)
    return alert_admins()


def use(key: ApiKey, model: str, day: dt.date) -> None:
    row = daily(key, day, 1)
    row.requested_model = model
    row.save()


def test_admins_get_one_alert_30_days_before(
    project: Project, key: ApiKey, credential: Credential, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alice owns the project, Bob is a member, Charlie an admin."""
    project.memberships.create(user=charlie, role=Role.ADMIN)
    use(key, "gpt-4o-mini", RETIREMENT - dt.timedelta(days=35))
    assert run_on(monkeypatch, RETIREMENT - dt.timedelta(days=31)) == 0
    assert run_on(monkeypatch, RETIREMENT - dt.timedelta(days=30)) == 1
    assert run_on(monkeypatch, RETIREMENT - dt.timedelta(days=29)) == 0
    deliver_alerts()
    assert sorted(message.to[0] for message in mail.outbox) == ["alice@example.org", "charlie@example.org"]
    assert mail.outbox[0].subject == "[Acme] gpt-4o-mini retires on 2027-01-14"
    assert "gpt-6-luna" in mail.outbox[0].body and "/alerts/" in mail.outbox[0].body
    assert not Delivery.objects.filter(status="pending").exists()


def test_a_route_counts_as_use_and_names_the_target(
    project: Project, credential: Credential, monkeypatch: pytest.MonkeyPatch
) -> None:
    Route.objects.create(
        project=project,
        name="smart",
        targets=[{"provider": "openai", "model": "gpt-6-luna"}],
        fallbacks=["openai/gpt-4.1"],
    )
    assert run_on(monkeypatch, RETIREMENT - dt.timedelta(days=5)) == 1
    alert = AdminAlert.objects.get()
    assert (alert.subject, alert.occasion) == ("gpt-4.1", "2027-01-14")
    assert "under the name smart" in alert.text


def test_models_of_other_servers_and_unknown_names_do_not_alert(
    project: Project, key: ApiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    Credential.objects.create(
        project=project, slug="openai", provider="openai", base_url="https://gateway.example/v1"
    )
    for model in ("gpt-4o-mini", "nothing/known", "gemini/gemini-3.1-flash-lite"):
        use(key, model, RETIREMENT - dt.timedelta(days=10))
    assert run_on(monkeypatch, RETIREMENT - dt.timedelta(days=5)) == 0

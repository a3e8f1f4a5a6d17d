"""Pages of budgets, limits and alerts."""

import datetime as dt
from typing import Any

import pytest
from aiohttp import web
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags
from pytest_django import DjangoAssertNumQueries

from billing.models import Alert, Budget, BudgetWindow, Delivery, DeliveryStatus, Mode, Period, Webhook
from keys import scopes
from keys.models import ApiKey
from projects.models import ConfigVersion, Project, Role, User
from projects.vault import unseal
from tests.support.factories import USD, record, signed_in, webhook_at
from tests.support.upstream_server import LocalUpstream

FORM = {"key": "", "period": "day", "limit_nano": "25", "mode": "hard", "thresholds": "50, 80, 100"}


def page_of(response: HttpResponse) -> str:
    return " ".join(strip_tags(response.content.decode()).split())


def create(user: User, project: Project, **fields: Any) -> HttpResponse:
    return signed_in(user).post(reverse("budget-new", args=[project.slug]), {**FORM, **fields})  # type: ignore[return-value]


def field_error(response: HttpResponse, field: str) -> str:
    """Return the error shown at a field."""
    page = response.content.decode()
    assert f'id="id_{field}_error"' in page, page_of(response)
    return page.split(f'id="id_{field}_error"')[1].split("</div>")[0].replace("&#x27;", "'")


def form_context(user: User, name: str, project: Project) -> str:
    return page_of(signed_in(user).get(reverse(name, args=[project.slug])))  # type: ignore[arg-type]


def test_new_budget_applies_to_the_project_or_a_key(project: Project, key: ApiKey, alice: User) -> None:
    create(alice, project)
    create(
        alice, project, key=key.pk, period="week", mode="soft", limit_nano="$1,000.50", thresholds="10 150%"
    )
    whole, own = Budget.objects.for_project(project)
    assert (whole.key, whole.period, whole.mode, whole.limit_nano, whole.thresholds) == (
        None,
        "day",
        "hard",
        25 * USD,
        [50, 80, 100],
    )
    assert (own.key, own.period, own.mode, own.limit_nano, own.thresholds) == (
        key,
        "week",
        "soft",
        1000 * USD + USD // 2,
        [10, 150],
    )


def test_several_budgets_apply_at_once(project: Project, alice: User) -> None:
    for period in Period:
        for mode in Mode:
            create(alice, project, period=period.value, mode=mode.value)
    assert [budget.period for budget in Budget.objects.for_project(project)] == [
        period for period in Period for _ in Mode
    ]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("limit_nano", "", "This field is required."),
        ("limit_nano", "-5", "without a sign"),
        ("limit_nano", "many", "Enter US dollars as"),
        ("limit_nano", "1e3", "Enter US dollars as"),
        ("limit_nano", "1,000,000,001", "must be between 0 and 1,000,000,000"),
        ("limit_nano", "9" * 400, "must be between"),
        ("limit_nano", "0.0000000001", "at most nine decimal places"),
        ("period", "year", "Select a valid choice."),
        ("mode", "gentle", "Select a valid choice."),
        ("key", "999999", "Select a valid choice."),
        ("thresholds", "80, 50", "in ascending order"),
        ("thresholds", "50, 50", "each of them once"),
        ("thresholds", "0, 50", "from 1 to 1000"),
        ("thresholds", "-1, 50", "from 1 to 1000"),
        ("thresholds", "1001", "from 1 to 1000"),
        ("thresholds", "half", "such as 50, 80, 100"),
        ("thresholds", "1,2,3,4,5,6,7,8,9,10,11", "at most 10 thresholds"),
        ("alert_members", "999999", "not one of the available choices"),
    ],
)
def test_invalid_entry_shows_a_field_error(
    project: Project, alice: User, field: str, value: str, message: str
) -> None:
    assert message in field_error(create(alice, project, **{field: value}), field)
    assert not Budget.objects.exists()


def test_zero_limit_requires_a_hard_budget(project: Project, alice: User) -> None:
    assert "only possible for a budget that refuses" in field_error(
        create(alice, project, limit_nano="0", mode="soft"), "limit_nano"
    )
    create(alice, project, limit_nano="0")
    assert Budget.objects.get().limit_nano == 0


def test_a_duplicate_budget_is_rejected(project: Project, key: ApiKey, alice: User) -> None:
    for owner in ("", key.pk):
        create(alice, project, key=owner)
        assert "A budget with this period and mode already exists." in page_of(
            create(alice, project, key=owner, limit_nano="7")
        )
    assert Budget.objects.count() == 2


def test_objects_of_other_projects_are_not_offered(project: Project, alice: User, charlie: User) -> None:
    other = Project.objects.create_with_owner("Charlie's", owner=charlie)
    foreign_key, _ = ApiKey.objects.issue(other, "theirs")
    foreign_hook, _ = webhook_at(other, "https://example.org/theirs")
    webhook_at(project, "https://example.org/ours")
    member = other.memberships.get()
    for field, value in (
        ("key", foreign_key.pk),
        ("alert_members", member.pk),
        ("alert_webhooks", foreign_hook.pk),
    ):
        field_error(create(alice, project, **{field: value}), field)
    signed_in(alice).post(reverse("budget-new", args=[project.slug]), {**FORM, "project": other.pk})
    assert Budget.objects.get().project == project


def test_creator_is_the_default_recipient(project: Project, alice: User, bob: User) -> None:
    hook, _ = webhook_at(project, "https://example.org/hook")
    page = signed_in(alice).get(reverse("budget-new", args=[project.slug])).content.decode()
    assert 'value="50, 80, 100"' in page
    own, other = (str(project.memberships.get(user=user).pk) for user in (alice, bob))
    assert "checked" in page.split(f'name="alert_members" value="{own}"')[1].split(">")[0]
    assert "checked" not in page.split(f'name="alert_members" value="{other}"')[1].split(">")[0]
    create(alice, project, alert_members=[other], alert_webhooks=[hook.pk])
    budget = Budget.objects.get()
    assert [member.user for member in budget.alert_members.all()] == [bob]
    assert list(budget.alert_webhooks.all()) == [hook]


def test_edit_bumps_config_version_and_keeps_key_and_period(
    project: Project, key: ApiKey, alice: User
) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=USD)
    before = ConfigVersion.current()
    address = reverse("budget-edit", args=[project.slug, budget.pk])
    forged = {"key": "", "period": "month", "limit_nano": "7", "mode": "soft", "thresholds": ""}
    assert signed_in(alice).post(address, forged)["Location"] == reverse("budget-list", args=[project.slug])
    budget.refresh_from_db()
    assert (budget.key, budget.period, budget.limit_nano, budget.mode, budget.thresholds) == (
        key,
        "day",
        7 * USD,
        "soft",
        [],
    )
    assert ConfigVersion.current() != before


def test_delete_asks_for_confirmation(project: Project, alice: User) -> None:
    budget = Budget.objects.create(project=project, period=Period.DAY, limit_nano=USD)
    client, address = signed_in(alice), reverse("budget-delete", args=[project.slug, budget.pk])
    assert "Delete budget" in page_of(client.get(address))  # type: ignore[arg-type]
    assert Budget.objects.exists()
    client.post(address)
    assert not Budget.objects.exists()
    assert client.post(address).status_code == 404


def test_list_shows_spent_reserved_remaining_and_reset_time(project: Project, key: ApiKey, bob: User) -> None:
    Project.objects.update(timezone="Asia/Tokyo")
    project.refresh_from_db()
    budget = Budget.objects.create(
        project=project, key=key, period=Period.DAY, limit_nano=10 * USD, mode="shadow"
    )
    today = project.today()
    BudgetWindow.objects.create(budget=budget, name=today.isoformat(), spent_nano=3 * USD, reserved_nano=USD)
    BudgetWindow.objects.create(
        budget=budget, name=(today - dt.timedelta(days=1)).isoformat(), spent_nano=9 * USD
    )
    Budget.objects.create(project=project, period=Period.TOTAL, limit_nano=2 * USD)
    record(key, cost_nano=USD // 2)
    page = form_context(bob, "budget-list", project)
    tomorrow = today + dt.timedelta(days=1)
    for text in (
        "$6.00 left",
        "$3.00 of $10.00 spent",
        "$1.00 reserved",
        "only records",
        f"{tomorrow:%b} {tomorrow.day}, 00:00",
    ):
        assert text in page
    for text in ("$1.50 left", "$0.50 of $2.00 spent", "Does not reset", "refuses requests"):
        assert text in page


def test_query_count_does_not_grow_with_budgets(
    project: Project, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        key, _ = ApiKey.objects.issue(project, f"key {number}")
        Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=USD)
    client = signed_in(alice)
    with django_assert_max_num_queries(8):
        client.get(reverse("budget-list", args=[project.slug]))


def test_viewers_see_budgets_without_edit_links(project: Project, charlie: User) -> None:
    project.memberships.create(user=charlie, role=Role.VIEWER)
    Budget.objects.create(project=project, period=Period.DAY, limit_nano=USD)
    page = form_context(charlie, "budget-list", project)
    assert "$1.00 left" in page
    assert "Edit" not in page and "Delete" not in page and "New budget" not in page


def edit_key(user: User, key: ApiKey, **fields: Any) -> HttpResponse:
    address = reverse("key-edit", args=[key.project.slug, key.public_id])
    return signed_in(user).post(address, {"label": "app", **fields})  # type: ignore[return-value]


def test_key_edit_changes_only_name_models_and_limits(project: Project, key: ApiKey, alice: User) -> None:
    edit_key(
        alice,
        key,
        rpm_limit="60",
        tpm_limit="90000",
        concurrency_limit="4",
        allowed_models="gpt-4o\ndemo/chat",
        scopes="inference",
    )
    key.refresh_from_db()
    assert (key.rpm_limit, key.tpm_limit, key.concurrency_limit) == (60, 90_000, 4)
    assert key.allowed_models == ["gpt-4o", "demo/chat"]
    assert key.scopes == [scopes.ALL]
    page = form_context(alice, "key-list", project)
    assert "60 requests/min" in page and "90,000 tokens/min" in page and "4 at once" in page


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "9" * 30])
@pytest.mark.parametrize("field", ["rpm_limit", "tpm_limit", "concurrency_limit"])
def test_out_of_range_limit_shows_a_field_error(
    project: Project, key: ApiKey, alice: User, field: str, value: str
) -> None:
    assert field_error(edit_key(alice, key, **{field: value}), field)
    settings = reverse("project-settings", args=[project.slug])
    refused = signed_in(alice).post(settings, {"name": "Acme", "timezone": "UTC", field: value})
    assert field_error(refused, field)  # type: ignore[arg-type]


def test_a_key_revoked_during_an_edit_stays_revoked(
    key: ApiKey, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revoke_first(form: Any, save: Any = None) -> None:
        ApiKey.objects.get().revoke()

    monkeypatch.setattr("keys.forms.KeyEditForm._post_clean", revoke_first)
    edit_key(alice, key, rpm_limit="60")
    assert not ApiKey.objects.get().is_active
    assert (
        signed_in(alice).get(reverse("key-edit", args=[key.project.slug, key.public_id])).status_code == 404
    )


def test_settings_include_rate_limits_and_timezone(project: Project, alice: User) -> None:
    fields = {
        "name": "Acme",
        "timezone": "Asia/Kathmandu",
        "rpm_limit": "600",
        "tpm_limit": "",
        "concurrency_limit": "20",
    }
    signed_in(alice).post(reverse("project-settings", args=[project.slug]), fields)
    project.refresh_from_db()
    assert (project.timezone, project.rpm_limit, project.tpm_limit, project.concurrency_limit) == (
        "Asia/Kathmandu",
        600,
        None,
        20,
    )


def test_unknown_timezone_is_rejected(project: Project, alice: User) -> None:
    refused = signed_in(alice).post(
        reverse("project-settings", args=[project.slug]), {"name": "Acme", "timezone": "Mars/Olympus"}
    )
    assert "Mars/Olympus is not an IANA timezone." in field_error(refused, "timezone")  # type: ignore[arg-type]


def test_a_new_key_has_limits_and_alerts_its_creator(project: Project, bob: User) -> None:
    fields = {
        "label": "app",
        "scopes": ["inference"],
        "day_budget": "5",
        "tpm_limit": "1000",
        "concurrency_limit": "2",
    }
    signed_in(bob).post(reverse("key-new", args=[project.slug]), fields)
    key = ApiKey.objects.get()
    assert (key.tpm_limit, key.concurrency_limit) == (1000, 2)
    assert [member.user for member in key.budgets.get().alert_members.all()] == [bob]


def add_webhook(user: User, project: Project, **fields: str) -> HttpResponse:
    form = {"name": "pager", "url": "https://example.org/hook?token=t0p-s3cret", **fields}
    return signed_in(user).post(reverse("webhook-new", args=[project.slug]), form)  # type: ignore[return-value]


def test_webhook_secret_is_shown_once_and_stored_encrypted(project: Project, alice: User) -> None:
    page = add_webhook(alice, project).content.decode()
    webhook = Webhook.objects.get()
    secret = unseal(project.pk, webhook.sealed_secret)
    assert secret.startswith("whsec_") and page.count(secret) == 1
    assert secret not in webhook.sealed_secret
    listing = signed_in(alice).get(reverse("alert-list", args=[project.slug])).content.decode()
    assert secret not in listing and "example.org" in listing and "t0p-s3cret" not in listing


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "This field is required."),
        ("example.org/hook", "Enter an http or https URL"),
        ("ftp://example.org/", "Enter an http or https URL"),
        ("https://user:pw@example.org/", "Enter an http or https URL"),
        ("https://example.org/?token=x#part", "without a fragment"),
        ("http://10.1.2.3/hook", "is a private address"),
        ("http://169.254.169.254/latest/meta-data", "is a private address"),
        ("http://2130706433/", "is not a valid IP address"),
        ("https://example.org/" + "x" * 500, "at most 500 characters"),
    ],
)
def test_invalid_url_shows_a_field_error(project: Project, alice: User, url: str, message: str) -> None:
    assert message in field_error(add_webhook(alice, project, url=url), "url")
    assert not Webhook.objects.exists()


def test_webhook_names_are_unique_and_their_number_is_limited(project: Project, alice: User) -> None:
    for number in range(10):
        add_webhook(alice, project, name=f"hook {number}")
    assert "at most 10 webhooks" in page_of(add_webhook(alice, project, name="one more"))
    Webhook.objects.exclude(name="hook 0").delete()
    assert "already has a webhook of this name" in field_error(
        add_webhook(alice, project, name="hook 0"), "name"
    )


def test_result_of_a_test_message_is_shown(
    transactional_db: None, project: Project, alice: User, upstream: LocalUpstream
) -> None:
    async def accept(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=204)

    upstream.handler = accept
    works, _ = webhook_at(project, upstream.url, "works")
    fails, _ = webhook_at(project, "http://127.0.0.1:1/hook", "fails")
    for hook in (works, fails):
        signed_in(alice).post(reverse("webhook-test", args=[project.slug, hook.pk]))
    assert dict(Delivery.objects.values_list("webhook__name", "status")) == {
        "works": DeliveryStatus.DELIVERED,
        "fails": DeliveryStatus.FAILED,
    }
    page = form_context(alice, "alert-list", project)
    assert "delivered works" in page and "failed fails Attempt 1: connection failed" in page
    assert b'"webhook.test"' in upstream.requests[0].body


def test_alerts_are_listed_with_their_messages(project: Project, key: ApiKey, alice: User, bob: User) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    hook, _ = webhook_at(project, "https://example.org/hook")
    alert = Alert.objects.create(
        budget=budget, window="2026-11-20", threshold=80, spent_nano=8 * USD, limit_nano=10 * USD
    )
    Delivery.objects.create(
        project=project,
        alert=alert,
        member=project.memberships.get(user=alice),
        status=DeliveryStatus.DELIVERED,
        attempts=1,
    )
    later = timezone.now() + dt.timedelta(minutes=2)
    waiting = {"attempts": 2, "failure_reason": "the response had status <500>", "next_attempt_at": later}
    Delivery.objects.create(project=project, alert=alert, webhook=hook, **waiting)
    page = form_context(bob, "alert-list", project)
    for text in (
        "app daily 80 %",
        "$8.00 of $10.00 spent",
        "delivered alice@example.org",
        "pending pager",
        "Attempt 2:",
        "Next at",
    ):
        assert text in page
    assert "<500>" not in signed_in(bob).get(reverse("alert-list", args=[project.slug])).content.decode()


def test_alerts_of_another_project_are_not_listed(project: Project, key: ApiKey, charlie: User) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    Alert.objects.create(
        budget=budget, window="2026-11-20", threshold=80, spent_nano=8 * USD, limit_nano=10 * USD
    )
    webhook_at(project, "https://example.org/hook")
    own = Project.objects.create_with_owner("Charlie's", owner=charlie)
    page = form_context(charlie, "alert-list", own)
    assert "No alerts yet" in page and "pager" not in page

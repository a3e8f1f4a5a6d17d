import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.sessions.models import Session
from django.http import HttpResponse
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from billing.models import Budget, BudgetWindow, Period
from keys import scopes, tokens
from keys.forms import SCOPE_LABELS
from keys.models import ApiKey
from keys.scopes import ALL_SCOPES
from projects.models import Project, User
from tests.support.factories import USD, signed_in
from tests.support.pages import field_error, open_page

FORM = {"label": "Chat widget", "scopes": ["inference"]}


def create(user: User, project: Project, **fields: Any) -> HttpResponse:
    return signed_in(user).post(reverse("key-new", args=[project.slug]), {**FORM, **fields})  # type: ignore[return-value]


def token_in(page: str) -> str:
    start = page.index(tokens.PREFIX)
    return page[start : start + tokens.TOKEN_LENGTH]


def test_a_new_key_is_shown_once_and_works(project: Project, bob: User) -> None:
    response = create(bob, project)
    page = response.content.decode()
    token = tokens.parse(token_in(page))
    assert token is not None
    key = ApiKey.objects.get(public_id=token.public_id)
    assert key.verify(token)
    assert page.count(token.secret) == 1
    assert "not be shown again" in page
    assert "no-store" in response["Cache-Control"]
    assert (key.project, key.created_by, key.label, key.scopes) == (
        project,
        bob,
        "Chat widget",
        ["inference"],
    )


def test_a_new_key_is_not_in_the_session_or_on_other_pages(project: Project, bob: User) -> None:
    client = signed_in(bob)
    page = client.post(reverse("key-new", args=[project.slug]), FORM).content.decode()
    secret = token_in(page)[-38:]
    assert all(secret not in str(session.get_decoded()) for session in Session.objects.all())
    for name in ("key-list", "project-overview", "key-new"):
        assert secret not in client.get(reverse(name, args=[project.slug])).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("label", "", "This field is required."),
        ("scopes", [], "This field is required."),
        ("scopes", ["everything"], "Select a valid choice."),
        ("day_budget", "many", "Enter US dollars as"),
        ("day_budget", "-1", "Enter US dollars as"),
        ("day_budget", "1,5", "Enter US dollars as"),
        ("day_budget", "1,0000", "Enter US dollars as"),
        ("month_budget", "1.000,50", "Enter US dollars as"),
        ("month_budget", "٥", "Enter US dollars as"),
        ("month_budget", "1e3", "Enter US dollars as"),
        ("day_budget", "1,000,000,001", "must be between"),
        ("month_budget", "0.0000000001", "at most nine decimal places"),
        ("rpm_limit", "0", "greater than or equal to 1"),
        ("expires_on", "2020-01-01", "This day has passed."),
        ("expires_on", "9001-01-01", "Choose a day until 9000-12-31"),
        ("expires_on", "9999-12-31", "Choose a day until 9000-12-31"),
        ("allowed_models", "x" * 201, "at most 200 characters"),
    ],
)
def test_invalid_entry_shows_a_field_error(
    project: Project, bob: User, field: str, value: Any, message: str
) -> None:
    response = create(bob, project, **{field: value})
    page = response.content.decode()
    assert not ApiKey.objects.exists()
    beside = page.split(f'id="id_{field}_error"')[1].split("</div>")[0]
    assert message in beside.replace("&#x27;", "'")


def test_limits_and_budgets_are_stored_with_the_key(project: Project, alice: User) -> None:
    Project.objects.update(timezone="America/New_York")
    create(
        alice,
        project,
        day_budget="$1,000.50",
        month_budget="0",
        rpm_limit="60",
        expires_on="2050-07-01",
        allowed_models="gpt-4o\n\n demo/chat \ngpt-4o",
    )
    key = ApiKey.objects.get()
    assert key.allowed_models == ["gpt-4o", "demo/chat"]
    assert key.rpm_limit == 60
    assert key.expires_at == dt.datetime(2050, 7, 2, tzinfo=ZoneInfo("America/New_York"))
    assert {budget.period: budget.limit_nano for budget in key.budgets.all()} == {
        Period.DAY: 1000 * USD + USD // 2,
        Period.MONTH: 0,
    }


@pytest.mark.parametrize(
    ("text", "nano"), [("25", 25 * USD), ("1,234,567.5", 1_234_567 * USD + USD // 2), ("$1000", 1000 * USD)]
)
def test_dollar_amounts_are_parsed(project: Project, bob: User, text: str, nano: int) -> None:
    create(bob, project, day_budget=text)
    assert Budget.objects.get().limit_nano == nano


@pytest.mark.parametrize("timezone", ["Pacific/Niue", "Pacific/Kiritimati"])
def test_the_maximum_date_is_stored(project: Project, bob: User, timezone: str) -> None:
    Project.objects.update(timezone=timezone)
    create(bob, project, expires_on="9000-12-31")
    assert ApiKey.objects.get().expires_at == dt.datetime(9001, 1, 1, tzinfo=ZoneInfo(timezone))


def test_form_explains_budgets_and_unpriced_models(project: Project, bob: User) -> None:
    page = signed_in(bob).get(reverse("key-new", args=[project.slug])).content.decode()
    for field in ("day_budget", "month_budget"):
        assert (
            "only models with a known price" in page.split(f'id="id_{field}_helptext"')[1].split("</div>")[0]
        )


def test_a_key_without_budgets_has_none(project: Project, alice: User) -> None:
    create(alice, project)
    assert not Budget.objects.exists()


def test_form_explains_every_scope() -> None:
    assert set(SCOPE_LABELS) == set(ALL_SCOPES)


@pytest.mark.parametrize("scope", ["admin", "logs:read", "keys:manage", "project:manage"])
def test_members_cannot_grant_admin_scopes(project: Project, bob: User, alice: User, scope: str) -> None:
    assert "Select a valid choice." in create(bob, project, scopes=["inference", scope]).content.decode()
    assert not ApiKey.objects.exists()
    create(alice, project, scopes=[scope])
    assert ApiKey.objects.get().scopes == [scope]


def test_fields_not_on_the_form_are_ignored(project: Project, bob: User, charlie: User) -> None:
    other = Project.objects.create_with_owner("Charlie's", owner=charlie)
    forged = {"project": other.pk, "created_by": charlie.pk, "public_id": "a" * 12, "digest": "0" * 64}
    signed_in(bob).post(reverse("key-new", args=[project.slug]), {**FORM, **forged})
    key = ApiKey.objects.get()
    assert (key.project, key.created_by) == (project, bob)
    assert key.public_id != "a" * 12


def test_revoke_asks_for_confirmation(project: Project, key: ApiKey, bob: User) -> None:
    client, address = signed_in(bob), reverse("key-revoke", args=[project.slug, key.public_id])
    assert "Revoke key" in client.get(address).content.decode()
    key.refresh_from_db()
    assert key.is_active
    assert client.post(address)["Location"] == reverse("key-list", args=[project.slug])
    key.refresh_from_db()
    assert not key.is_active


def test_list_shows_remaining_budget_of_the_current_window(project: Project, key: ApiKey, bob: User) -> None:
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    today = project.today()
    BudgetWindow.objects.create(budget=budget, name=today.isoformat(), spent_nano=3 * USD, reserved_nano=USD)
    BudgetWindow.objects.create(
        budget=budget, name=(today - dt.timedelta(days=1)).isoformat(), spent_nano=9 * USD
    )
    page = signed_in(bob).get(reverse("key-list", args=[project.slug])).content.decode()
    assert "<strong>$6.00</strong> left" in page
    assert "$1.00 reserved" in page


def test_query_count_does_not_grow_with_keys(
    project: Project, key: ApiKey, bob: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for number in range(5):
        other, _ = ApiKey.objects.issue(project, f"key {number}", created_by=bob)
        Budget.objects.create(project=project, key=other, period=Period.DAY, limit_nano=USD)
    client = signed_in(bob)
    with django_assert_max_num_queries(9):
        client.get(reverse("key-list", args=[project.slug]))


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
    page = open_page(alice, "key-list", project)
    assert "60 requests/min" in page and "90,000 tokens/min" in page and "4 at once" in page


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "9" * 30])
@pytest.mark.parametrize("field", ["rpm_limit", "tpm_limit", "concurrency_limit"])
def test_out_of_range_limit_shows_a_field_error(
    project: Project, key: ApiKey, alice: User, field: str, value: str
) -> None:
    assert field_error(edit_key(alice, key, **{field: value}), field)
    settings = reverse("project-settings", args=[project.slug])
    refused = signed_in(alice).post(settings, {"name": "Acme", "timezone": "UTC", field: value})
    assert field_error(refused, field)


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

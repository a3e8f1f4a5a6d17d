"""Pages of budgets."""

import datetime as dt
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import reverse
from pytest_django import DjangoAssertNumQueries

from billing.models import Budget, BudgetWindow, Mode, Period
from keys.models import ApiKey
from projects.models import ConfigVersion, Project, Role, User
from tests.support.factories import USD, record, signed_in, webhook_at
from tests.support.pages import field_error, open_page, page_text

FORM = {"key": "", "period": "day", "limit_nano": "25", "mode": "hard", "thresholds": "50, 80, 100"}


def create(user: User, project: Project, **fields: Any) -> HttpResponse:
    return signed_in(user).post(reverse("budget-new", args=[project.slug]), {**FORM, **fields})  # type: ignore[return-value]


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
        ("limit_nano", "-5", "without + or -"),
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
    assert "only possible for a budget that denies" in field_error(
        create(alice, project, limit_nano="0", mode="soft"), "limit_nano"
    )
    create(alice, project, limit_nano="0")
    assert Budget.objects.get().limit_nano == 0


def test_a_duplicate_budget_is_rejected(project: Project, key: ApiKey, alice: User) -> None:
    for owner in ("", key.pk):
        create(alice, project, key=owner)
        assert "A budget with this period and mode already exists." in page_text(
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
    assert "Delete budget" in page_text(client.get(address))
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
    page = open_page(bob, "budget-list", project)
    tomorrow = today + dt.timedelta(days=1)
    for text in (
        "$6.00 left",
        "$3.00 of $10.00 spent",
        "$1.00 reserved",
        "only records",
        f"{tomorrow:%b} {tomorrow.day}, 00:00",
    ):
        assert text in page
    for text in ("$1.50 left", "$0.50 of $2.00 spent", "Does not reset", "denies requests"):
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
    page = open_page(charlie, "budget-list", project)
    assert "$1.00 left" in page
    assert "Edit" not in page and "Delete" not in page and "New budget" not in page

import datetime as dt

import pytest
from django.test import Client
from django.urls import reverse
from django.utils.html import strip_tags
from pytest_django import Settings

from billing.models import Outcome, StaleDay, UsageRecord
from billing.usage.reports import UsageReport
from keys.models import ApiKey
from projects.models import Project, Role, User
from proxy.models import Credential
from tests.support.factories import USD, busy_project, credential, daily, project_pages, record, signed_in

__all__ = ["busy_project", "credential"]


def stat(page: str, label: str) -> str:
    """Return the value in the tile with this label."""
    return page.split(f">{label}</dt>")[1].split('"stat__value">')[1].split("<", maxsplit=1)[0]


def test_landing_page_shows_formats_and_base_url(client: Client, settings: Settings, db: None) -> None:
    page = client.get("/").content.decode()
    assert "One base URL" in page
    assert all(format in page for format in ("Chat Completions", "Responses", "Anthropic", "Gemini"))
    assert f"{settings.ENV.public_url}/v1" in page


def test_signed_in_users_are_redirected_to_projects(alice: User) -> None:
    assert signed_in(alice).get("/")["Location"] == reverse("project-list")


def test_empty_list_links_to_a_new_project(charlie: User) -> None:
    assert "Create a project" in signed_in(charlie).get("/projects/").content.decode()


def test_list_shows_only_the_users_projects(project: Project, bob: User, charlie: User) -> None:
    Project.objects.create_with_owner("Charlie's", owner=charlie)
    page = signed_in(bob).get("/projects/").content.decode()
    assert "Acme" in page
    assert "Charlie" not in page


def test_creator_owns_the_project(charlie: User) -> None:
    response = signed_in(charlie).post("/projects/new/", {"name": "Robots", "timezone": "Asia/Tokyo"})
    project = Project.objects.get(name="Robots")
    assert response["Location"] == f"/projects/{project.slug}/"
    assert project.timezone == "Asia/Tokyo"
    assert project.memberships.get().role == Role.OWNER
    assert project.memberships.get().user == charlie


def test_project_slugs_do_not_hide_pages(charlie: User) -> None:
    signed_in(charlie).post("/projects/new/", {"name": "New", "timezone": "UTC"})
    assert Project.objects.get(name="New").slug != "new"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 81),
        ("timezone", "Mars/Olympus"),
        ("timezone", "localtime"),
        ("timezone", ""),
    ],
)
def test_invalid_entry_shows_a_field_error(charlie: User, field: str, value: str) -> None:
    page = (
        signed_in(charlie)
        .post("/projects/new/", {"name": "Robots", "timezone": "UTC", field: value})
        .content.decode()
    )
    assert f'id="id_{field}_error"' in page
    assert not Project.objects.filter(name="Robots").exists()


@pytest.mark.parametrize("page", ["new", "settings"])
def test_tenants_cannot_enable_operator_credentials(page: str, project: Project, alice: User) -> None:
    address = "/projects/new/" if page == "new" else reverse("project-settings", args=[project.slug])
    signed_in(alice).post(
        address, {"name": "Robots", "timezone": "UTC", "uses_operator_credentials": "on", "slug": "taken"}
    )
    changed = Project.objects.get(name="Robots")
    assert not changed.uses_operator_credentials
    assert changed.slug != "taken"


def test_settings_are_saved(project: Project, alice: User) -> None:
    signed_in(alice).post(
        reverse("project-settings", args=[project.slug]), {"name": "Acme Europe", "timezone": "Europe/Berlin"}
    )
    project.refresh_from_db()
    assert (project.name, project.timezone) == ("Acme Europe", "Europe/Berlin")


def test_an_invalid_form_does_not_change_the_page_title(project: Project, alice: User) -> None:
    page = (
        signed_in(alice)
        .post(reverse("project-settings", args=[project.slug]), {"name": "Refused", "timezone": "Mars"})
        .content.decode()
    )
    assert "<title>Settings · Acme · AI Gateway</title>" in page


def test_overview_of_a_new_project_shows_first_steps(project: Project, bob: User, settings: Settings) -> None:
    page = signed_in(bob).get(reverse("project-overview", args=[project.slug])).content.decode()
    assert f"curl {settings.ENV.public_url}/v1/chat/completions" in page
    assert "Latest requests" not in page


def test_overview_sums_today_from_records_and_month_from_rollup(
    busy_project: Project, key: ApiKey, bob: User
) -> None:
    today = busy_project.today()
    page = signed_in(bob).get(reverse("project-overview", args=[busy_project.slug])).content.decode()
    assert stat(page, "Spent today") == "$2.00"
    assert stat(page, "Spent this month") == ("$2.00" if today.day == 1 else "$42.00")
    assert stat(page, "Requests today") == "2"
    assert stat(page, "Failures today") == "1"
    assert "<strong>$6.00</strong> left" in page


def test_month_total_excludes_other_months_and_projects(project: Project, key: ApiKey, charlie: User) -> None:
    other, _ = ApiKey.objects.issue(Project.objects.create_with_owner("Charlie's", owner=charlie), "theirs")
    march = dt.date(2026, 3, 10)
    yesterday = march - dt.timedelta(days=1)
    daily(key, yesterday, 1)
    daily(key, dt.date(2026, 2, 28), 10)
    daily(other, yesterday, 100)
    daily(key, march, 1000)
    StaleDay.objects.mark([(project.pk, march)])
    record(key, day=march, cost_nano=7)
    record(other, day=march, cost_nano=10_000)
    assert UsageReport.month_to_date(project, march).cost_by_day() == {yesterday: 1, march: 7}


def test_today_uses_the_project_timezone(project: Project, key: ApiKey, bob: User) -> None:
    Project.objects.update(timezone="Pacific/Kiritimati")
    project.refresh_from_db()
    key.refresh_from_db()
    record(key, cost_nano=USD)
    Project.objects.update(timezone="Pacific/Niue")
    page = signed_in(bob).get(reverse("project-overview", args=[project.slug])).content.decode()
    assert stat(page, "Spent today") == "$0.00"


def test_overview_lists_the_latest_requests(project: Project, key: ApiKey, bob: User) -> None:
    for number in range(25):
        record(key, model=f"model-{number:02}", cost_nano=12_345)
    record(key, model="refused", outcome=Outcome.BUDGET_EXCEEDED)
    page = signed_in(bob).get(reverse("project-overview", args=[project.slug])).content.decode()
    rows = page.split("<tbody>")[1].split("</tbody>")[0]
    assert rows.count("<tr>") == 20
    assert "model-24" in rows
    assert "model-05" not in rows
    assert all(text in rows for text in ("1,234", "$0.000012345", "1.24 s", "200 budget", key.label))


def test_unpriced_requests_are_not_shown_as_free(project: Project, key: ApiKey, bob: User) -> None:
    def costs() -> list[str]:
        page = signed_in(bob).get(reverse("project-overview", args=[project.slug])).content.decode()
        rows = page.split("<tbody>")[1].split("</tbody>")[0].split("</tr>")[:-1]
        return [strip_tags(row.rsplit("<td", 1)[1].split(">", 1)[1]).strip() for row in rows]

    unpriced = record(key)
    assert costs() == ["unpriced"]
    UsageRecord.objects.filter(pk=unpriced.pk).update(price={"source": "test"})
    record(key, outcome=Outcome.UPSTREAM_ERROR)
    listing = record(key)
    UsageRecord.objects.filter(pk=listing.pk).update(input_tokens=0, output_tokens=0)
    assert costs() == ["$0.00"] * 3


def test_user_input_is_escaped(project: Project, alice: User) -> None:
    Project.objects.update(name="<script>alert(1)</script>")
    key, _ = ApiKey.objects.issue(project, "<img src=x onerror=alert(1)>")
    record(key, model="<b>bold</b>")
    client = signed_in(alice)
    for name in ("project-overview", "key-list", "project-settings"):
        page = client.get(reverse(name, args=[project.slug])).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "<b>bold" not in page


def test_every_project_page_is_marked_in_the_navigation(
    busy_project: Project, key: ApiKey, credential: Credential, alice: User
) -> None:
    client = signed_in(alice)
    pages = {
        name: client.get(address).content.decode()
        for name, (address, _) in project_pages(busy_project, key, credential).items()
    }
    assert {name: page.count('aria-current="page"') for name, page in pages.items()} == dict.fromkeys(
        pages, 1
    )
    assert "Overview" in pages["request-detail"].split('aria-current="page"')[1].split("</a>")[0]

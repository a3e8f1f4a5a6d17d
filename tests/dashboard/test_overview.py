"""Overview of a project."""

import datetime as dt

from django.urls import reverse
from django.utils.html import strip_tags
from pytest_django import Settings

from billing.models import Outcome, StaleDay, UsageRecord
from billing.usage.reports import UsageReport
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD, daily, record, signed_in


def stat(page: str, label: str) -> str:
    """Return the value in the tile with this label."""
    return page.split(f">{label}</dt>")[1].split('"stat__value">')[1].split("<", maxsplit=1)[0]


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


def test_savings_of_the_cache_are_shown_if_there_are_any(
    busy_project: Project, key: ApiKey, bob: User
) -> None:
    address, label = reverse("project-overview", args=[busy_project.slug]), "Saved by the cache this month"
    assert label not in signed_in(bob).get(address).content.decode()
    hit = record(key, outcome=Outcome.CACHED)
    UsageRecord.objects.filter(pk=hit.pk).update(saved_nano=3 * USD)
    assert stat(signed_in(bob).get(address).content.decode(), label) == "$3.00"

"""Page of one request with its cost breakdown."""

from uuid import uuid4

import msgspec
import pytest
from django.urls import reverse

from billing.models import Budget, CorrectionReason, UsageRecord
from billing.pricing import simple_price
from gateway_project.dashboard.templatetags.money import cost_label
from keys.models import ApiKey
from projects.models import Project, Role, User
from tests.support.factories import USD, record, signed_in


def detail(project: Project, user: User, record: UsageRecord) -> str:
    return signed_in(user).get(reverse("request-detail", args=[project.slug, record.pk])).content.decode()


def cost_lines_of(key: ApiKey) -> UsageRecord:
    """Return a record of 1,234 input tokens at $1.50 per million and 56 output tokens at $3."""
    usage_record = record(key)
    price = msgspec.structs.replace(simple_price("1.5", "3", "a list of ours"), request_fee_nano=1000)
    cost = price.cost(usage_record.tokens)
    UsageRecord.objects.filter(pk=usage_record.pk).update(
        cost_nano=cost, price=msgspec.to_builtins(price), service_tier="flex"
    )
    usage_record.refresh_from_db()
    return usage_record


def test_cost_is_broken_down_by_line(project: Project, key: ApiKey, bob: User) -> None:
    page = detail(project, bob, cost_lines_of(key))
    assert "a list of ours" in page and "flex" in page
    for text in (
        "1,234 tokens",
        "$1.50 per million",
        "$0.001851",
        "56 tokens",
        "$0.000168",
        "Fee per request",
        "$0.00202",
    ):
        assert text in page, text


def test_corrections_are_shown_with_their_request(project: Project, key: ApiKey, bob: User) -> None:
    usage_record = cost_lines_of(key)
    correction = record(key, cost_nano=-1_000_000)
    UsageRecord.objects.filter(pk=correction.pk).update(
        corrects=usage_record.pk, correction_reason=CorrectionReason.REPRICED
    )
    page = detail(project, bob, usage_record)
    assert "Repriced" in page and "-$0.001" in page and "$0.00102" in page
    response = signed_in(bob).get(reverse("request-detail", args=[project.slug, correction.pk]))
    assert response.headers["location"] == reverse("request-detail", args=[project.slug, usage_record.pk])


def test_missing_prices_and_zero_costs_are_stated(project: Project, key: ApiKey, bob: User) -> None:
    assert "was not known" in detail(project, bob, record(key))
    usage_record = record(key)
    UsageRecord.objects.filter(pk=usage_record.pk).update(input_tokens=0, output_tokens=0)
    assert "Nothing was charged" in detail(project, bob, usage_record)


def test_shadow_budget_that_would_deny_is_named(project: Project, key: ApiKey, bob: User) -> None:
    usage_record = record(key)
    assert "Would have been denied" not in detail(project, bob, usage_record)
    budget = Budget.objects.create(project=project, key=key, period="week", mode="shadow", limit_nano=5 * USD)
    UsageRecord.objects.filter(pk=usage_record.pk).update(blocking_budget_id=budget.pk)
    assert "$5.00 weekly for app" in detail(project, bob, usage_record)
    budget.delete()
    assert "a deleted budget" in detail(project, bob, usage_record)


def test_requests_of_other_projects_are_a_404(project: Project, key: ApiKey, charlie: User) -> None:
    other = Project.objects.create_with_owner("Charlie's own", owner=charlie)
    client = signed_in(charlie)
    assert client.get(reverse("request-detail", args=[other.slug, record(key).pk])).status_code == 404
    assert client.get(reverse("request-detail", args=[project.slug, record(key).pk])).status_code == 404
    assert client.get(reverse("request-detail", args=[other.slug, uuid4()])).status_code == 404


def test_overview_links_to_requests_for_viewers(project: Project, key: ApiKey, charlie: User) -> None:
    project.memberships.create(user=charlie, role=Role.VIEWER)
    usage_record = record(key)
    overview = signed_in(charlie).get(reverse("project-overview", args=[project.slug])).content.decode()
    assert reverse("request-detail", args=[project.slug, usage_record.pk]) in overview
    assert reverse("price-list", args=[project.slug]) in overview


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cache_read", "Cached input"),
        ("shell_4g", "Shell 4g"),
        ("gpt-image-2: image_output", "gpt-image-2: generated images"),
        ("gpt-image-2: estimated_image_output", "gpt-image-2: generated images, estimated"),
    ],
)
def test_cost_lines_have_labels(kind: str, words: str) -> None:
    assert cost_label(kind) == words


def test_calls_of_providers_are_listed(project: Project, key: ApiKey, bob: User) -> None:
    usage_record = cost_lines_of(key)
    attempts = [
        {"provider": "first", "model": "a", "status": 0, "error": "timeout", "ms": 1200, "cost_nano": 1000},
        {"provider": "second", "model": "b", "status": 200, "error": "", "ms": 30, "cost_nano": 2000},
    ]
    UsageRecord.objects.filter(pk=usage_record.pk).update(attempts=attempts, cost_nano=3000)
    page = detail(project, bob, usage_record)
    for text in ("first", "No response", "timeout", "1,200 ms", "second", "$0.000002", "Call of a provider"):
        assert text in page, text

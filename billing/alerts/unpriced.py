"""Alert the admins of projects whose requests use a model without a known price."""

import datetime as dt

from django.db.models import Q
from django.utils import timezone

from billing.models import AdminAlert, AdminEvent, Outcome, UsageRecord
from projects.ids import uuid7_floor
from projects.models import Project

LOOKBACK = dt.timedelta(hours=3)
"""The period that each run covers. Runs are more frequent than this, so that no request is missed."""


def alert_admins() -> int:
    """Create one alert a month for each model without a price. Return the number of new alerts."""
    used = UsageRecord.objects.requests().filter(
        Q(input_tokens__gt=0) | Q(output_tokens__gt=0),
        id__gte=uuid7_floor(timezone.now() - LOOKBACK),
        price__isnull=True,
        outcome=Outcome.OK,
    )
    names = set(used.exclude(provider="").values_list("project", "provider", "provider_model").distinct())
    projects = Project.objects.in_bulk({project_id for project_id, _, _ in names})
    return sum(
        alert_project(projects[project_id], provider, model)
        for project_id, provider, model in sorted(names)
        if project_id in projects
    )


def alert_project(project: Project, provider: str, model: str) -> bool:
    return AdminAlert.objects.raise_once(
        project,
        AdminEvent.MODEL_UNPRICED,
        f"{provider}/{model}"[:200],
        f"{project.today():%Y-%m}",
        f"{model} has no price",
        alert_text(provider, model),
    )


def alert_text(provider: str, model: str) -> str:
    """Say what happened, why, and what to do."""
    return (
        f"Requests use {model} at {provider}, and the gateway does not know its price. They are recorded "
        "without a cost, so no budget counts them. Set the price on the page Prices. The operator can then "
        "compute the cost of past requests with the command reprice."
    )

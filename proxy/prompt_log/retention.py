"""Retention of the prompt log: each project sets how many days its entries are kept."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from projects.models import Project
from proxy.models import PromptLogEntry, PromptLogSettings
from proxy.models.prompt_log import DEFAULT_RETENTION_DAYS


def delete_expired() -> int:
    """Delete the expired entries of all projects in batches. Return their number."""
    days_of = dict(PromptLogSettings.objects.values_list("project", "retention_days"))
    projects = Project.objects.values_list("pk", flat=True)
    return sum(delete_expired_of(each, days_of.get(each, DEFAULT_RETENTION_DAYS)) for each in projects)


def delete_expired_of(project_id: int, days: int) -> int:
    """Delete a project's entries that are older than `days` or than GATEWAY_RETENTION_DAYS."""
    kept = min(days, settings.ENV.gateway_retention_days or days)
    return PromptLogEntry.objects.delete_before(project_id, timezone.now() - timedelta(days=kept))

"""Alerts to the admins of a project whose credential is rejected by its provider."""

from django.utils import timezone

from billing.models import AdminAlert, AdminEvent
from projects.models import Project

MAX_REASON_LENGTH = 500


def alert_admins(project_id: int, slug: str, reason: str) -> None:
    """Alert the admins of a project at most once a day. A deleted project is ignored."""
    if project := Project.objects.filter(pk=project_id).first():
        AdminAlert.objects.raise_once(
            project,
            AdminEvent.CREDENTIAL_REJECTED,
            slug,
            timezone.now().date().isoformat(),
            f"The credential {slug} is rejected by its provider",
            alert_text(slug, reason[:MAX_REASON_LENGTH]),
        )


def alert_text(slug: str, reason: str) -> str:
    """Say what happened, why, and what to do."""
    return (
        f"The provider rejects requests with the credential {slug}: {reason.rstrip('.')}. Requests use other "
        f"credentials and targets as far as there are any. Check the credit and the key at the provider. The "
        f"gateway tries the credential again every five minutes, and uses it as soon as it is accepted."
    )

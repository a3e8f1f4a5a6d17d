"""Scheduled work; each task is a shell around one verb."""

import structlog
from celery import shared_task
from django.core.cache import cache

from billing.alerts import outbox, watch
from billing.audit import DIFFERENCES, differences
from billing.ledger.inspection import current_state
from billing.models import DailyUsage

log = structlog.get_logger()


@shared_task
def roll_up_usage() -> int:
    return DailyUsage.objects.recompute_dirty()


@shared_task
def audit_ledger() -> int:
    """Its figure is a metric: nobody reads what a scheduled audit prints."""
    found = list(differences(current_state()))
    for difference in found:
        log.error("the books do not agree", difference=str(difference))
    cache.set(DIFFERENCES, len(found), timeout=None)
    return len(found)


@shared_task
def raise_alerts() -> int:
    return watch.raise_alerts()


@shared_task
def deliver_alerts() -> int:
    return outbox.deliver_due()

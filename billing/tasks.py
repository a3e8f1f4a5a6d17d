"""Scheduled work; each task is a shell around one verb."""

from celery import shared_task

from billing.alerts import outbox, watch
from billing.models import DailyUsage


@shared_task
def roll_up_usage() -> int:
    return DailyUsage.objects.recompute_dirty()


@shared_task
def raise_alerts() -> int:
    return watch.raise_alerts()


@shared_task
def deliver_alerts() -> int:
    return outbox.deliver_due()

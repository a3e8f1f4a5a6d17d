"""Scheduled work; each task is a shell around one verb."""

from celery import shared_task

from billing.models import DailyUsage


@shared_task
def roll_up_usage() -> int:
    return DailyUsage.objects.recompute_dirty()

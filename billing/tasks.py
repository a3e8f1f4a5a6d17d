"""Scheduled work; each task is a shell around one verb."""

import time

import structlog
from celery import shared_task
from django.core.cache import cache

from billing.alerts import deliver, detect
from billing.ledger.audit.checks import LAST_AUDIT_KEY
from billing.ledger.audit.run import run_audit
from billing.usage.rollup import roll_up_stale_days

log = structlog.get_logger()


@shared_task
def roll_up_usage() -> int:
    return roll_up_stale_days().days


@shared_task
def audit_ledger() -> int:
    """Its figures are metrics: nobody reads what a scheduled audit prints."""
    found = run_audit().mismatches
    for difference in found:
        log.error("the books do not agree", difference=str(difference))
    cache.set(LAST_AUDIT_KEY, (len(found), time.time()), timeout=None)
    return len(found)


@shared_task
def detect_alerts() -> int:
    return detect.detect_alerts()


@shared_task
def deliver_alerts() -> int:
    return deliver.deliver_due()

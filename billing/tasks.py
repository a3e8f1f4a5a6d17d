"""Celery tasks of billing."""

import time

import structlog
from celery import shared_task
from django.core.cache import cache

from billing.alerts import deliver, detect, unpriced
from billing.ledger.audit.checks import LAST_AUDIT_KEY
from billing.ledger.audit.run import run_audit
from billing.usage import retention
from billing.usage.rollup import roll_up_stale_days

log = structlog.get_logger()


@shared_task
def roll_up_usage() -> int:
    return roll_up_stale_days().days


@shared_task
def delete_expired_records() -> int:
    return retention.delete_expired()


@shared_task
def audit_ledger() -> int:
    """Audit the ledger and log the mismatches. Store their number and the current time for the metrics."""
    mismatches = run_audit().mismatches
    for mismatch in mismatches:
        log.error(
            "ledger_audit_mismatch",
            message="The audit of the ledger found amounts that do not agree.",
            mismatch=str(mismatch),
        )
    cache.set(LAST_AUDIT_KEY, (len(mismatches), time.time()), timeout=None)
    return len(mismatches)


@shared_task
def detect_alerts() -> int:
    return detect.detect_alerts()


@shared_task
def alert_of_unpriced_models() -> int:
    return unpriced.alert_admins()


@shared_task
def deliver_alerts() -> int:
    return deliver.deliver_due()

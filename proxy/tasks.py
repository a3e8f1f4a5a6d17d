"""Scheduled Celery tasks: each calls one function."""

from celery import shared_task

from proxy.models import IdempotentRequest, IssuedId
from proxy.prompt_log.retention import delete_expired
from proxy.routing import retirement_alerts


@shared_task
def purge_idempotent_requests() -> int:
    return IdempotentRequest.objects.purge()


@shared_task
def purge_issued_ids() -> int:
    return IssuedId.objects.purge()


@shared_task
def delete_expired_prompts() -> int:
    return delete_expired()


@shared_task
def alert_of_retirements() -> int:
    return retirement_alerts.alert_admins()

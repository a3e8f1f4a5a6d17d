"""Scheduled work; each task is a shell around one verb."""

from celery import shared_task

from proxy.models import IdempotentRequest, IssuedId


@shared_task
def purge_idempotent_requests() -> int:
    return IdempotentRequest.objects.purge()


@shared_task
def purge_issued_ids() -> int:
    return IssuedId.objects.purge()

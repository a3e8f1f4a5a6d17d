from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from billing.usage import retention
from proxy.models import IdempotentRequest, IssuedId
from proxy.prompt_log.retention import delete_expired


class Command(BaseCommand):
    help = (
        "Deletes expired data now: usage records that are older than GATEWAY_RETENTION_DAYS, prompts, stored "
        "responses, and ids of providers. Scheduled tasks do the same. The sums of deleted records stay."
    )

    def handle(self, *_: Any, **__: Any) -> None:
        if settings.ENV.gateway_retention_days is None:
            self.stdout.write("GATEWAY_RETENTION_DAYS is not set, so all usage records are kept.")
        for count, name in (
            (retention.delete_expired(), "usage records"),
            (delete_expired(), "prompt log entries"),
            (IdempotentRequest.objects.purge(), "stored responses"),
            (IssuedId.objects.purge(), "ids of providers"),
        ):
            self.stdout.write(f"{count:>10,} {name} deleted")

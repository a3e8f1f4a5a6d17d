from collections.abc import Iterable
from itertools import chain
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from billing.models import Webhook
from projects.vault import DecryptionError
from proxy.models import Credential, IdempotentRequest, PromptLogEntry

EncryptedRow = Credential | Webhook | IdempotentRequest | PromptLogEntry


class Command(BaseCommand):
    help = (
        "Encrypts all secrets of providers and webhooks, all stored responses, and the prompt log, with the "
        "first key of GATEWAY_ENCRYPTION_KEYS."
    )

    def handle(self, *_: Any, **__: Any) -> None:
        responses = IdempotentRequest.objects.completed().iterator()
        prompts = PromptLogEntry.objects.iterator()
        rows: Iterable[EncryptedRow] = chain(
            Credential.objects.all(), Webhook.objects.all(), responses, prompts
        )
        failed = [each for each in rows if not self.rotate(each)]
        if failed:
            raise CommandError(
                f"No key of GATEWAY_ENCRYPTION_KEYS decrypts {len(failed)} of the secrets: "
                f"{', '.join(map(str, failed))}."
            )
        self.stdout.write("All secrets are encrypted with the first key.")

    def rotate(self, sealed: EncryptedRow) -> bool:
        try:
            sealed.rotate_encryption()
        except DecryptionError:
            return False
        return True

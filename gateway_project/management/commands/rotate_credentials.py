from typing import Any

from django.core.management.base import BaseCommand, CommandError

from proxy.models import Credential
from proxy.vault import Undecipherable


class Command(BaseCommand):
    help = "Encrypts every stored provider secret anew under the first of GATEWAY_ENCRYPTION_KEYS."

    def handle(self, *_: Any, **__: Any) -> None:
        failed = [credential for credential in Credential.objects.all() if not self.rotated(credential)]
        if failed:
            raise CommandError(f"No key opens {len(failed)} of them: {', '.join(map(str, failed))}.")
        self.stdout.write("All secrets are encrypted under the first key.")

    def rotated(self, credential: Credential) -> bool:
        try:
            credential.rotate()
        except Undecipherable:
            return False
        return True

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.management import stored_secrets
from keys.models import ApiKey, ApiKeyQuerySet

MAX_LISTED = 20


class Command(BaseCommand):
    help = (
        "Replaces the pepper, with which the digests of API keys are made. Keys cannot be hashed again "
        "without their secrets. Therefore the earlier pepper is still accepted, and each key gets a digest "
        "with the new pepper when it is used next."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        step = parser.add_mutually_exclusive_group()
        step.add_argument("--status", action="store_true", help="only show which keys have the new pepper")
        step.add_argument("--finish", action="store_true", help="stop accepting earlier peppers")
        parser.add_argument(
            "--yes", action="store_true", help="with --finish: do so even if keys stop working"
        )

    def handle(self, *_: Any, status: bool, finish: bool, yes: bool, **__: Any) -> None:
        if status:
            self.show_status()
        elif not stored_secrets.has_stored_pepper(settings.ENV):
            raise CommandError(
                "GATEWAY_KEY_PEPPER is set in the environment, so this command cannot change it. Rotate it "
                "as docs/operations.md describes, and see the progress with --status."
            )
        elif finish:
            self.finish(even_if_keys_fail=yes)
        else:
            stored_secrets.rotate_pepper(settings.ENV)
            self.stdout.write(
                "The pepper was replaced in secrets.json. Restart the gateway now: until then it does not "
                "accept keys that commands create. Keys of clients continue to work."
            )

    def show_status(self) -> None:
        waiting = keys_to_rehash()
        total = ApiKey.objects.active().count()
        self.stdout.write(f"{len(waiting)} of {total} active keys were not used since the rotation.")
        for key in waiting[:MAX_LISTED]:
            self.stdout.write(f"  {key.project.slug}: {key}")

    def finish(self, *, even_if_keys_fail: bool) -> None:
        if (count := len(keys_to_rehash())) and not even_if_keys_fail:
            raise CommandError(
                f"{count} active keys would stop working (see --status). Wait until they are used, revoke "
                "them, or add --yes."
            )
        stored_secrets.remove_accepted_peppers(settings.ENV)
        self.stdout.write("Earlier peppers are no longer accepted after a restart of the gateway.")


def keys_to_rehash() -> ApiKeyQuerySet:
    return ApiKey.objects.active().with_another_pepper().select_related("project").order_by("project", "pk")

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.project_config.document import InvalidDocument, Outcome, apply_document

STANDARD_INPUT = "-"


class Command(BaseCommand):
    help = (
        "Applies a file that export_config wrote or that you wrote. It prints the differences, and makes all "
        "changes or none. What the file does not mention stays as it is. The command can run while the "
        "gateway runs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help=f"the YAML file; {STANDARD_INPUT} for standard input")
        parser.add_argument("--dry-run", action="store_true", help="only print the differences")
        parser.add_argument(
            "--prune",
            action="store_true",
            help="in each section that the file has, also remove what it does not mention: keys are revoked, "
            "prices end, and other rows are deleted. Projects and members always stay",
        )

    def handle(self, *_: Any, file: str, dry_run: bool, prune: bool, **__: Any) -> None:
        try:
            outcome = apply_document(read(file), prunes=prune, dry_run=dry_run)
        except InvalidDocument as error:
            message = f"{file} cannot be applied. Nothing was changed.\n{error}"
            raise CommandError(message, returncode=2) from None
        self.show(outcome, dry_run=dry_run)

    def show(self, outcome: Outcome, *, dry_run: bool) -> None:
        for change in outcome.changes:
            self.stdout.write(str(change))
        for note in outcome.notes:
            self.stdout.write(f"note: {note}")
        if not outcome.changes:
            self.stdout.write("No changes.")
        elif dry_run:
            self.stdout.write(f"{len(outcome.changes)} changes. Nothing was written.")
        else:
            self.stdout.write(f"{len(outcome.changes)} changes were made.")


def read(file: str) -> str:
    try:
        return sys.stdin.read() if file == STANDARD_INPUT else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise CommandError(f"{file} cannot be read: {reason}.", returncode=2) from None

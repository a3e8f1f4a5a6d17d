import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.money import format_usd
from projects.models import LAST_DAY, Project
from proxy.repricing import Repricing, Summary


class Command(BaseCommand):
    help = "Brings the cost of past requests to the prices that hold for their time. It adds corrections; no record is changed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", required=True, type=day, metavar="DATE", help="the first day, in each project's timezone: 2026-11-20"
        )
        parser.add_argument("--until", default=LAST_DAY, type=day, metavar="DATE", help="the last day; default: today")
        parser.add_argument("--project", default="", metavar="SLUG", help="default: all projects")
        parser.add_argument("--model", default="", metavar="NAME", help="only this model, as its provider calls it")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["since"] > options["until"]:
            raise CommandError("--since is later than --until.")
        projects = Project.objects.order_by("pk")
        if options["project"]:
            projects = projects.filter(slug=options["project"])
            if not projects:
                raise CommandError(f"There is no project {options['project']}.")
        for project in projects:
            summary = Repricing(project).run(options["since"], options["until"], options["model"], keep=not options["dry_run"])
            self.stdout.write(f"{project.slug}: {told(summary)}{' Nothing was written.' if options['dry_run'] else ''}")


def day(text: str) -> dt.date:
    """Raises ValueError, which argparse tells as it should."""
    return dt.date.fromisoformat(text)


def told(summary: Summary) -> str:
    sign = "+" if summary.difference_nano > 0 else ""
    words = f"{summary.corrected} of {summary.records} charged requests corrected, {sign}{format_usd(summary.difference_nano)}"
    notes = {
        "unpriced before": summary.newly_priced,
        "without a price still": summary.unpriced,
        "left at what was held for them": summary.held,
    }
    return "; ".join([words, *(f"{count} {note}" for note, count in notes.items() if count)]) + "."

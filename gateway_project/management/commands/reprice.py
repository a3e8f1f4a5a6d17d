import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.money import format_usd
from billing.pricing.reprice import Repricer, RepriceSummary
from projects.models import MAX_DATE, Project
from proxy.routing.prices import ProviderPrices


class Command(BaseCommand):
    help = (
        "Recomputes the cost of past requests with the prices that are now stored for their time. If a cost "
        "differs, the command adds a correction. It does not change records."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since",
            required=True,
            type=parse_date,
            metavar="DATE",
            help="the first day, in each project's timezone: 2026-11-20",
        )
        parser.add_argument(
            "--until", default=MAX_DATE, type=parse_date, metavar="DATE", help="the last day; default: today"
        )
        parser.add_argument("--project", default="", metavar="SLUG", help="default: all projects")
        parser.add_argument(
            "--model", default="", metavar="NAME", help="only this model (the provider's name of it)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only print what would change")

    def handle(self, *_: Any, **options: Any) -> None:
        if options["since"] > options["until"]:
            raise CommandError("--since is later than --until.")
        projects = Project.objects.order_by("pk")
        if options["project"]:
            projects = projects.filter(slug=options["project"])
            if not projects:
                raise CommandError(f"There is no project {options['project']}.")
        for project in projects:
            summary = Repricer(project, ProviderPrices(project).price_at).run(
                options["since"], options["until"], options["model"], dry_run=options["dry_run"]
            )
            self.stdout.write(
                f"{project.slug}: {format_summary(summary)}"
                + (" Nothing was written." if options["dry_run"] else "")
            )


def parse_date(text: str) -> dt.date:
    """Parse a date. If it is invalid, argparse reports the ValueError."""
    return dt.date.fromisoformat(text)


def format_summary(summary: RepriceSummary) -> str:
    sign = "+" if summary.cost_change_nano > 0 else ""
    sentence = (
        f"{summary.corrected} of {summary.records} charged requests corrected, "
        f"{sign}{format_usd(summary.cost_change_nano)}"
    )
    notes = {
        "had no price before": summary.newly_priced,
        "still without a price": summary.unpriced,
        "keep their reserved amount as cost": summary.left_at_reserved,
        "were deleted because of their age and keep their cost": summary.deleted,
    }
    return "; ".join([sentence, *(f"{count} {note}" for note, count in notes.items() if count)]) + "."

import datetime as dt
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.models import DailyUsage
from billing.money import format_usd


class Command(BaseCommand):
    help = "Updates the daily totals from the records, also while the gateway serves. Repeating it is safe."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", metavar="DATE", help="also rebuild every day from this one on, as 2026-11-01"
        )

    def handle(self, *_: Any, since: str | None, **__: Any) -> None:
        result = (
            DailyUsage.objects.recompute_stale()
            if since is None
            else DailyUsage.objects.rebuild(parse_date(since))
        )
        for failure in result.failures:
            self.stdout.write(f"Not summed: {failure}")
        self.stdout.write(f"{result.days} days of projects recomputed.")
        for month, cost_nano, requests in DailyUsage.objects.totals_by_month():
            self.stdout.write(f"{month:%Y-%m}  {format_usd(cost_nano):>14}  {requests:>10,} requests")
        if result.failures:
            sys.exit(1)


def parse_date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a date; write it as 2026-11-01.") from None

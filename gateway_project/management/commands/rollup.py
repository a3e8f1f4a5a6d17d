import datetime as dt
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing.money import format_usd
from billing.usage.reports import totals_by_month
from billing.usage.rollup import rebuild_from, roll_up_stale_days


class Command(BaseCommand):
    help = "Updates the daily sums from the records. The command can run at any time, and repeatedly."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--since", metavar="DATE", help="also recompute all days from this date, for example 2026-11-01"
        )

    def handle(self, *_: Any, since: str | None, **__: Any) -> None:
        result = roll_up_stale_days() if since is None else rebuild_from(parse_date(since))
        for failure in result.failures:
            self.stdout.write(f"Not summed: {failure}")
        self.stdout.write(f"{result.days} days of projects recomputed.")
        for month, totals in totals_by_month().items():
            self.stdout.write(
                f"{month:%Y-%m}  {format_usd(totals.cost_nano):>14}  {totals.requests:>10,} requests"
            )
        if result.failures:
            sys.exit(1)


def parse_date(text: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a date. Write it as 2026-11-01.") from None

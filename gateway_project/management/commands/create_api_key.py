from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from billing.models import Budget, Period
from billing.money import InvalidAmount, parse_usd
from gateway_project.bootstrap import get_or_create_demo_project
from keys import scopes
from keys.models import ApiKey
from projects.models import DEMO_SLUG, Project

MAX_VALUES = {"rpm": 2**31 - 1, "tpm": 2**63 - 1, "concurrency": 2**31 - 1, "expires_in_days": 36_500}


class Command(BaseCommand):
    help = (
        "Creates an API key and prints it on the last line. The key is valid at once. The command can run "
        "while the gateway runs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("owner", help="the name of the key, usually that of its user or program")
        parser.add_argument("scopes", nargs="+", help=f"a list of: {', '.join(scopes.ALL_SCOPES)}")
        parser.add_argument("--project", default=DEMO_SLUG, metavar="SLUG", help="default: the demo project")
        for period in Period:
            parser.add_argument(
                f"--{period.label}-budget",
                metavar="USD",
                help="a hard budget, with up to nine decimal places",
            )
        parser.add_argument("--rpm", type=int, metavar="N", help="requests per minute")
        parser.add_argument("--tpm", type=int, metavar="N", help="tokens per minute")
        parser.add_argument("--concurrency", type=int, metavar="N", help="requests at once")
        parser.add_argument("--models", default="", metavar="A,B", help="only these models")
        parser.add_argument("--expires-in-days", type=int, metavar="N")

    @transaction.atomic
    def handle(self, *_: Any, **options: Any) -> None:
        try:
            granted = scopes.parse(" ".join(options["scopes"]))
            budgets = {
                period: parse_usd(options[f"{period.label}_budget"])
                for period in Period
                if options[f"{period.label}_budget"] is not None
            }
        except (scopes.UnknownScope, InvalidAmount) as error:
            raise CommandError(str(error)) from None
        for option, maximum in MAX_VALUES.items():
            if options[option] is not None and not 1 <= options[option] <= maximum:
                raise CommandError(f"--{option.replace('_', '-')} must be from 1 to {maximum}.")
        days = options["expires_in_days"]
        key, token = ApiKey.objects.issue(
            self.project(options["project"]),
            options["owner"],
            scopes=granted,
            allowed_models=[name.strip() for name in options["models"].split(",") if name.strip()],
            rpm_limit=options["rpm"],
            tpm_limit=options["tpm"],
            concurrency_limit=options["concurrency"],
            expires_at=timezone.now() + timedelta(days=days) if days else None,
        )
        for period, limit in budgets.items():
            Budget.objects.create(project=key.project, key=key, period=period, limit_nano=limit)
        self.stdout.write(token)

    def project(self, slug: str) -> Project:
        if slug == DEMO_SLUG:
            return get_or_create_demo_project()
        try:
            return Project.objects.get(slug=slug)
        except Project.DoesNotExist:
            raise CommandError(f"There is no project {slug}.") from None

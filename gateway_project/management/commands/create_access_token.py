from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keys.forms import AccessTokenForm
from keys.scopes import MANAGEMENT_SCOPES
from projects.models import User


class Command(BaseCommand):
    help = (
        "Creates a personal access token of a user for the management API and prints it on the last line. "
        "The token of an operator has access to all projects."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email", help="the e-mail address of the user")
        parser.add_argument("scopes", nargs="+", help=f"one or more of: {', '.join(MANAGEMENT_SCOPES)}")
        parser.add_argument("--name", default="command line", help="default: command line")
        parser.add_argument("--expires-on", default="", metavar="DATE", help="the last day, in UTC")

    def handle(self, *_: Any, **options: Any) -> None:
        user = User.objects.filter(email=options["email"].lower()).first()
        if user is None:
            raise CommandError(f"There is no user {options['email']}.")
        names = ("name", "scopes", "expires_on")
        form = AccessTokenForm({name: options[name] for name in names})
        if not form.is_valid():
            raise CommandError(" ".join(str(text) for texts in form.errors.values() for text in texts))
        self.stdout.write(form.issue(user)[1])

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from gateway_project import env
from gateway_project.cli import INVALID_CONFIGURATION
from gateway_project.management.config_check import find_problems


class Command(BaseCommand):
    help = (
        "Checks the variables, the config file, the database, Redis and the stored secrets. It prints all "
        "problems, and exits with status 2 if there are any."
    )
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *_: Any, **__: Any) -> None:
        problems = [*env.tolerated_problems, *find_problems()]
        for problem in problems:
            self.stderr.write(f"configuration error: {problem}")
        if problems:
            raise CommandError(f"{len(problems)} problems found.", returncode=INVALID_CONFIGURATION)
        self.stdout.write("The configuration is valid.")

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.project_config.document import export_document
from projects.models import Project


class Command(BaseCommand):
    help = (
        "Writes the configuration of projects as YAML, for apply_config: settings, members, keys, "
        "credentials, webhooks, budgets, routes and prices. It contains no secrets."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", metavar="SLUG", help="default: all projects, and operator prices")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")

    def handle(self, *_: Any, project: str | None, output: Path | None, **__: Any) -> None:
        projects = Project.objects.order_by("slug")
        if project is not None:
            projects = projects.filter(slug=project)
            if not projects:
                raise CommandError(f"There is no project {project}.")
        document = export_document(projects, with_operator_prices=project is None)
        if output is None:
            self.stdout.write(document)
            return
        try:
            output.write_text(document)
        except OSError as error:
            raise CommandError(f"{output} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"The configuration was written to {output}.")

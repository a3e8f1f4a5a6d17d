from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.management import project_data
from projects.models import Project


class Command(BaseCommand):
    help = (
        "Writes all data of a project as JSON lines into a tar file, one file for each table: usage records, "
        "prompts, alerts, and the configuration. Secrets of keys, credentials and webhooks are left out."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", metavar="SLUG")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: SLUG.tar.gz")

    def handle(self, *_: Any, project: str, output: Path | None, **__: Any) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            raise CommandError(f"There is no project {project}.")
        path = output or Path(f"{project}.tar.gz")
        try:
            counts = project_data.export(found, path)
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from None
        self.stdout.write(f"{sum(counts.values()):,} rows of {len(counts)} tables were written to {path}.")

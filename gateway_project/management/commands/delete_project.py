from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from gateway_project.management import project_data
from keys.models import ApiKey
from projects.models import Project


class Command(BaseCommand):
    help = (
        "Deletes a project with all its data. It first revokes the keys of the project, so that its requests "
        "end. If it is interrupted, run it again. Users keep their accounts."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project", metavar="SLUG")
        parser.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *_: Any, project: str, yes: bool, **__: Any) -> None:
        found = Project.objects.filter(slug=project).first()
        if found is None:
            raise CommandError(f"There is no project {project}.")
        self.stdout.write(f"This deletes the project {found.name} ({project}):")
        for name, count in project_data.count_rows(found).items():
            self.stdout.write(f"  {count:>10,} {name}")
        if not yes and not is_confirmed(project):
            raise CommandError("Nothing was deleted.")
        for key in ApiKey.objects.for_project(found):
            key.revoke()
        project_data.delete(found)
        self.stdout.write(f"The project {project} was deleted.")


def is_confirmed(slug: str) -> bool:
    """Ask for the slug. Without a terminal, the answer is no."""
    try:
        return input(f"Enter {slug} to delete it: ").strip() == slug
    except EOFError:
        return False

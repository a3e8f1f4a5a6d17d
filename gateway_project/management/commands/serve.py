from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from gateway_project import first_start, server
from proxy import operator_config


class Command(BaseCommand):
    help = "Brings the database up to date, makes the first account if there is none, and serves."
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *_: Any, **__: Any) -> None:
        host, port = settings.ENV.gateway_host, settings.ENV.port
        try:
            operator_config.current()
            bound = server.bind(host, port)
        except operator_config.BadConfiguration as error:
            raise CommandError(f"configuration error: {error}") from None
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        with first_start.one_after_the_other():
            call_command("migrate", interactive=False, verbosity=0)
            first = first_start.prepare()
        server.build(first_start.banner(first)).run(sockets=[bound])

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway_project import bootstrap, server
from gateway_project.dashboard import static_files
from proxy.routing import config_file
from proxy.routing.routes.file_check import check_routes


class Command(BaseCommand):
    help = (
        "Migrates the database, creates the operator and a demo project if there is no operator, "
        "and runs the gateway."
    )
    requires_system_checks: tuple[str, ...] = ()

    def handle(self, *_: Any, **__: Any) -> None:
        host, port = settings.ENV.gateway_host, settings.ENV.port
        try:
            check_routes(config_file.load())
            bound = server.bind(host, port)
        except config_file.ConfigError as error:
            raise CommandError(f"configuration error: {error}", returncode=2) from None
        except OSError as error:
            raise CommandError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        result = bootstrap.prepare_database()
        static_files.collect_if_changed()
        server.build(bootstrap.banner(result)).run(sockets=[bound])

import socket
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from gateway_project import bootstrap, server
from gateway_project.cli import INVALID_CONFIGURATION
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
        try:
            check_routes(config_file.load())
        except config_file.ConfigError as error:
            for problem in str(error).splitlines():
                self.stderr.write(f"configuration error: {problem}")
            raise SystemExit(INVALID_CONFIGURATION) from None
        ports = (settings.ENV.port, settings.ENV.gateway_admin_port)
        bound = [bind(settings.ENV.gateway_host, port) for port in ports if port is not None]
        result = bootstrap.prepare_database()
        static_files.collect_if_changed()
        server.build(bootstrap.banner(result)).run(sockets=bound)


def bind(host: str, port: int) -> socket.socket:
    """Bind a socket to an address. Raises CommandError if the address cannot be used."""
    try:
        return server.bind(host, port)
    except OSError as error:
        raise CommandError(
            f"cannot listen on {host}:{port}: {error.strerror}", returncode=INVALID_CONFIGURATION
        ) from None

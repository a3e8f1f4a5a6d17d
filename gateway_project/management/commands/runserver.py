"""The development server. It runs the complete gateway on daphne, and restarts when a file is saved.

No other module imports daphne, so a serving process loads neither daphne nor Twisted's reactor
(docs/adr/0004-daphne-for-development.md).
"""

import os
import signal
import subprocess
import sys
import threading
from functools import partial
from types import FrameType
from typing import Any
from urllib.parse import unquote

from daphne import http_protocol
from daphne.management.commands import runserver
from django.conf import settings
from django.utils import autoreload
from twisted.internet import reactor

from gateway_project import bootstrap
from gateway_project.lifespan import services
from proxy.http.handler import resolve_route

RELOAD_STATUS = 3
"""The exit status with which Django's reloader requests a new process."""
STOP_TIMEOUT_S = 10
"""How long the main thread waits for daphne and the services to stop."""


class OfferIgnoringRequest(http_protocol.WebRequest):  # type: ignore[misc]
    """Ignores an offer of WebSocket on a gateway route or with a method other than GET, like `server.py`."""

    def process(self) -> None:
        path = unquote(self.path.decode("latin-1"))
        if self.method != b"GET" or resolve_route(path) is not None:
            self.requestHeaders.removeHeader(b"Upgrade")
        super().process()


http_protocol.WebRequest = OfferIgnoringRequest


class Command(runserver.Command):  # type: ignore[misc]
    """Prepares the database as `serve` does, runs daphne, and stops the services when daphne has ended."""

    default_addr = settings.ENV.gateway_host
    default_port = str(settings.ENV.port)
    stopped = threading.Event()

    def handle(self, *args: Any, **options: Any) -> None:
        if not is_reloader_child():
            print(bootstrap.banner(bootstrap.prepare_database()), flush=True)
        super().handle(*args, **options)

    def run(self, **options: Any) -> None:
        if options["use_reloader"] and not is_reloader_child():
            sys.exit(run_with_restarts())
        try:
            super().run(**options)
        finally:
            # With the reloader, daphne runs in another thread and would not stop.
            reactor.callFromThread(reactor.stop)  # type: ignore[misc]  # mypy sees a zope interface, whose methods have no self.
            self.stopped.wait(STOP_TIMEOUT_S)

    def inner_run(self, *args: Any, **options: Any) -> None:
        try:
            super().inner_run(*args, **options)
        finally:
            services.stop_on_demand()
            self.stopped.set()


def is_reloader_child() -> bool:
    """Return whether the reloader started this process. Without the reloader, the result is False."""
    return os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true"


def run_with_restarts() -> int:
    """Run the server in a child process, and return the exit status of the last child.

    Whenever the child exits with RELOAD_STATUS, start a new one.

    Django's own loop is not used, because it kills the child 0.25 s after Ctrl-C, before its requests are
    settled. A terminal sends Ctrl-C to both processes. SIGTERM reaches only this process, which forwards it.
    """
    signal.signal(signal.SIGINT, lambda *_: None)
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    status = RELOAD_STATUS
    while status == RELOAD_STATUS:
        child = subprocess.Popen(autoreload.get_child_arguments(), env=environment)
        signal.signal(signal.SIGTERM, partial(forward_signal, child))
        status = child.wait()
    return status


def forward_signal(child: subprocess.Popen[bytes], number: int, _frame: FrameType | None) -> None:
    child.send_signal(number)

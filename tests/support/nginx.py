"""nginx with the configuration of `deploy/nginx.conf`, in front of processes on this machine."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.databases import directory
from tests.support.gateway_server import ROOT, free_port

PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
START_S = 30
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
needs_nginx = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")


class Nginx:
    """A running nginx with two workers, so that each of them has its own connections to the gateway."""

    def __init__(self, home: Path, ports: Mapping[str, int]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.errors, file = home / "error.log", home / "nginx.conf"
        file.write_text(configuration(home, self.port, ports))
        assert PROGRAM is not None
        command = [PROGRAM, "-p", str(home), "-e", str(self.errors), "-c", str(file), "-g", "daemon off;"]
        self.process = subprocess.Popen(command, start_new_session=True)

    def wait_until_started(self) -> None:
        deadline = time.monotonic() + START_S
        while not self.responds():
            assert self.process.poll() is None and time.monotonic() < deadline, self.errors.read_text()
            time.sleep(0.05)

    def responds(self) -> bool:
        try:
            return httpx.get(f"{self.url}/metrics").status_code == 404
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


def configuration(home: Path, port: int, ports: Mapping[str, int]) -> str:
    """Return `deploy/nginx.conf` with the addresses and directories of this machine.

    `ports` has the port of each service. Debian's nginx has no `resolve` for fixed addresses.
    """
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for service, its_port in ports.items():
        text = text.replace(f"server {service}:8080 resolve", f"server 127.0.0.1:{its_port}")
    text = text.replace("listen 80 ", f"listen 127.0.0.1:{port} ").replace("processes auto;", "processes 2;")
    text = text.replace("/tmp/nginx.pid", f"{home}/nginx.pid")
    text = text.replace("/dev/stderr", f"{home}/error.log").replace("/dev/stdout", f"{home}/access.log")
    paths = "".join(f"    {name}_temp_path {home}/{name};\n" for name in TEMPORARY)
    return text.replace("http {\n", f"http {{\n{paths}")


@contextmanager
def nginx_before(ports: Mapping[str, int]) -> Iterator[Nginx]:
    """Run nginx in front of the services with these ports."""
    with directory("gateway-nginx-", sandboxed=False) as home:
        home.chmod(0o755)  # nginx's workers have another account.
        nginx = Nginx(home, ports)
        try:
            nginx.wait_until_started()
            yield nginx
        finally:
            nginx.stop()

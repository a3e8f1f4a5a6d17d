"""Gateway processes, started as by an operator, each with its own data and an empty environment."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.support.environment import TRANSPARENT

START_S = 90
"""Maximum time for a start, which migrates an empty database. A loaded machine needs this long."""
ROOT = Path(__file__).resolve().parent.parent.parent
STATIC_FILES = ROOT / "var" / "static-of-tests"
"""Shared by all gateways of the tests, because collecting and compressing the files takes seconds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class GatewayProcess:
    """A gateway on a free port. `command` is what Python runs."""

    command: tuple[str, ...] = ("-m", "gateway_project.cli")
    leads_process_group = False

    def __init__(self, data: Path, **variables: str) -> None:
        self.data, self.port = data, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {
            "PATH": os.environ["PATH"],
            "HOME": str(data),
            "AI_GATEWAY_ENV_FILE": "/dev/null",
            "PYTHONPATH": str(ROOT),
            "GATEWAY_STATIC_DIR": str(STATIC_FILES),
            **TRANSPARENT,
        }
        self.environment = {**inherited, "GATEWAY_DATA_DIR": str(data), "PORT": str(self.port), **variables}
        self.process: subprocess.Popen[bytes] | None = None
        self.output = data.parent / f"{data.name}.log"

    def start(self, *arguments: str) -> "GatewayProcess":
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self.command, *arguments],
                env=self.environment,
                cwd=self.data.parent,
                stdout=output,
                stderr=output,
                start_new_session=self.leads_process_group,
            )
        deadline = time.monotonic() + START_S
        while not self.ready():
            assert self.process.poll() is None and time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)
        return self

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """Send a signal to this process and wait for its end; return the seconds that it took."""
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(40)
        return time.monotonic() - started

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the process group, as a terminal does; this process must lead a group of its own."""
        assert self.process is not None and self.leads_process_group
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(40)

    def manage(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        if url := self.environment.get("DATABASE_URL"):
            with psycopg.connect(url) as postgres:
                return postgres.execute(sql.encode()).fetchall()
        with sqlite3.connect(self.data / "gateway.sqlite3") as connection:
            rows = connection.execute(sql).fetchall()
        connection.close()
        return rows

    def demo_key(self) -> str:
        """Return the API key that the first start printed."""
        found = re.search(r"sk-gw_\w+", self.output.read_text())
        assert found, "the gateway has not started"
        return found[0]

    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]

    def post(self, token: str, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(
            f"{self.url}/v1/chat/completions", json={**CHAT, **body}, headers=headers, timeout=30
        )

    def open_stream(self, token: str, **body: Any) -> socket.socket:
        """Start a streamed response; return its socket after the first bytes have arrived."""
        payload = json.dumps({**CHAT, "stream": True, **body}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
            f"content-length: {len(payload)}\r\n\r\n"
        )
        client = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        client.sendall(head.encode() + payload)
        while b"content" not in client.recv(65536):
            pass
        return client


@contextmanager
def silent_server() -> Iterator[int]:
    """Run a server that accepts connections and never responds; yield its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}]}

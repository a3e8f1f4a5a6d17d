"""Run all tests on SQLite and, at the same time, those marked `databases` on PostgreSQL and Redis.

Django reads the address of its database when it is imported, so the two runs are separate calls of pytest.
Many tests wait, so each run has WORKERS processes, and each process of the second run has its own servers.

If the arguments name paths, each run has one process. The second run then starts after the first one, and
only if a test in these paths is marked `databases`, so that the tests of other paths end within seconds.

The tests marked `clients` need npm packages. This program installs them if it is called with `--clients`, and
in continuous integration. It does so before the tests start, because npm needs the caller's environment,
which the tests do not get.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO
from xml.etree import ElementTree

import pytest

from tests.support import node_clients
from tests.support.databases import postgresql, valkey
from tests.support.node_clients import NodeClientsMissing

STOP_TIMEOUT_S = 30
WORKERS = 2
PARALLEL = (f"--numprocesses={WORKERS}", "--dist=loadfile")
CLIENTS_OPTION = "--clients"
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    clean_up_on_signals()
    os.environ |= clients_environment(arguments)
    with run_directory() as directory:
        reports = [directory / "embedded.xml", directory / "databases.xml"]
        statuses: tuple[int, ...]
        if names_paths(arguments) or CLIENTS_OPTION in arguments:
            statuses = run_in_turn(arguments, directory, *reports)
        else:
            statuses = run_both(arguments, directory, *reports)
        counts = sum(map(count, reports), Counter[str]())
    broken = not set(statuses) <= {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    # A run that breaks down leaves no report of its failures, but must not count as a success.
    failed = max(counts["failures"] + counts["errors"], int(broken))
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


def clients_environment(arguments: Sequence[str]) -> dict[str, str]:
    """Install the npm packages if this run needs them. Return variables with their path, or the error."""
    whole_suite_in_ci = "CI" in os.environ and not names_paths(arguments)
    if CLIENTS_OPTION not in arguments and not whole_suite_in_ci:
        return {}
    try:
        return {"GATEWAY_TEST_CLIENTS": str(node_clients.install())}
    except NodeClientsMissing as error:
        return {"GATEWAY_TEST_CLIENTS_MISSING": str(error)}


def names_paths(arguments: Sequence[str]) -> bool:
    """Return whether an argument is a path of tests."""
    paths = (Path(argument.partition("::")[0]) for argument in arguments if not argument.startswith("-"))
    return any(path.exists() for path in paths)


def run_in_turn(
    arguments: Sequence[str], directory: Path, embedded_report: Path, databases_report: Path
) -> tuple[int, ...]:
    """Run the tests on SQLite, then those marked `databases` on servers; return the exit statuses."""
    marker = directory / "has-tests-for-servers"
    note = {"GATEWAY_TEST_SERVERS_WANTED": str(marker)}
    with suite([*arguments, f"--junit-xml={embedded_report}"], directory, note) as embedded:
        status = embedded.wait()
    if not marker.exists():
        return (status,)
    arguments = [*arguments, f"--junit-xml={databases_report}"]
    with servers(1) as environment, suite(arguments, directory, environment) as databases:
        return status, databases.wait()


@contextmanager
def servers(workers: int) -> Iterator[dict[str, str]]:
    """Run PostgreSQL and Valkey for each worker; yield the environment of tests that use them."""
    with ExitStack() as stack:
        pairs = [(stack.enter_context(postgresql()), stack.enter_context(valkey())) for _ in range(workers)]
        database_urls, redis_urls = zip(*pairs, strict=True)
        yield {
            "GATEWAY_TEST_DATABASE_URLS": " ".join(database_urls),
            "GATEWAY_TEST_REDIS_URLS": " ".join(redis_urls),
        }


def run_both(
    arguments: Sequence[str], directory: Path, embedded_report: Path, databases_report: Path
) -> tuple[int, ...]:
    """Run both suites; return their exit statuses.

    The output of the SQLite run is shown at once, and the output of the other run after it.
    """
    log = directory / "databases.log"
    arguments = [*PARALLEL, *arguments]
    with suite([*arguments, f"--junit-xml={embedded_report}"], directory) as embedded:
        with log.open("wb") as output, servers(WORKERS) as environment:
            arguments = [*arguments, f"--junit-xml={databases_report}"]
            with suite(arguments, directory, environment, output) as databases:
                statuses = embedded.wait(), databases.wait()
        print("\nOn PostgreSQL and Redis:", log.read_text(errors="replace"), sep="\n", flush=True)
    return statuses


@contextmanager
def suite(
    arguments: Sequence[str],
    directory: Path,
    environment: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run pytest in its own session. An interrupt then reaches only this process, which ends pytest."""
    command = [sys.executable, "-m", "pytest", "-o", f"cache_dir={directory}/cache", *arguments]
    storage = {"TMPDIR": str(directory), "HYPOTHESIS_STORAGE_DIRECTORY": f"{directory}/hypothesis"}
    process = subprocess.Popen(
        command,
        env={**os.environ, **storage, **(environment or {})},
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        interrupt(process)


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Interrupt pytest in a way that lets it tear down its fixtures and their servers."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def count(report: Path) -> Counter[str]:
    """Count tests, failures, errors and skips in a JUnit report; return zeros if there is no report."""
    total = Counter[str]()
    if report.exists():
        for run in ElementTree.parse(report).getroot().iter("testsuite"):
            total.update({name: int(run.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")})
    return total


@contextmanager
def run_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="gateway-tests-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        # PostgreSQL may run under another account in a directory below this one.
        directory.chmod(0o711)
        yield directory


def clean_up_on_signals() -> None:
    """Unwind the stack at the first signal, which ends servers and deletes files; ignore later ones."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in SIGNALS:
        signal.signal(each, end)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run all tests on SQLite and, at the same time, those marked `databases` on PostgreSQL and Redis.

Django reads the address of its database when it is imported, so each of the two runs is its own pytest
process. If the arguments name paths, and no test there is marked `databases`, only the first run takes place:
it needs no servers and is done in seconds.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO
from xml.etree import ElementTree

import pytest

from tests.support.databases import postgresql, valkey

STOP_TIMEOUT_S = 30
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main(arguments: Sequence[str]) -> int:
    clean_up_on_signals()
    with run_directory() as directory:
        reports = [directory / "embedded.xml", directory / "databases.xml"]
        statuses: tuple[int, ...]
        if needs_servers(arguments):
            statuses = run_both(arguments, directory, *reports)
        else:
            statuses = (run_embedded(arguments, directory, reports[0]),)
        counts = sum(map(count, reports), Counter[str]())
    broken = not set(statuses) <= {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    # A run that breaks down leaves no report of its failures, but must not count as a success.
    failed = max(counts["failures"] + counts["errors"], int(broken))
    passed = counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


def needs_servers(arguments: Sequence[str]) -> bool:
    """Return whether the whole suite was asked for, or a path with tests that are marked `databases`."""
    paths = [Path(argument.partition("::")[0]) for argument in arguments if not argument.startswith("-")]
    paths = [path for path in paths if path.exists()]
    return not paths or any(
        "mark.databases" in file.read_text() for path in paths for file in test_files(path)
    )


def test_files(path: Path) -> Iterator[Path]:
    """Yield the test modules at or below `path`."""
    return path.rglob("test_*.py") if path.is_dir() else iter([path])


def run_embedded(arguments: Sequence[str], directory: Path, report: Path) -> int:
    with suite([*arguments, f"--junit-xml={report}"], directory) as embedded:
        return embedded.wait()


def run_both(
    arguments: Sequence[str], directory: Path, embedded_report: Path, databases_report: Path
) -> tuple[int, ...]:
    """Run both suites; return their exit statuses.

    The output of the embedded run is shown as it comes, the output of the other one after it.
    """
    log = directory / "databases.log"
    with suite([*arguments, f"--junit-xml={embedded_report}"], directory) as embedded:
        with log.open("wb") as output, postgresql() as database_url, valkey() as redis_url:
            servers = {"GATEWAY_TEST_DATABASE_URL": database_url, "GATEWAY_TEST_REDIS_URL": redis_url}
            with suite(
                [*arguments, f"--junit-xml={databases_report}"], directory, servers, output
            ) as databases:
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
    """Run pytest in its own session: an interrupt reaches only this process, which then ends pytest."""
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
    """Let pytest tear down its fixtures, so that the servers of tests end with it."""
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

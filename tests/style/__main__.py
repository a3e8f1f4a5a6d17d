"""Check the rules of writing that a program can check: `python -m tests.style [PATH ...]`.

Print one line for each finding (file, line, what is wrong, what to use instead) and exit with status 1 if
there is any. Without paths, every file that git tracks is checked.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.style import docstrings, layout, log_events, migrations, names, prose
from tests.style.finding import Finding

SOURCES = ("projects", "keys", "billing", "proxy", "gateway_project", "tests")
EXEMPT = (Path("tests/style/vocabulary.py"), Path("tests/style/test_style.py"))
"""Files that hold the banned words."""


def main(arguments: Sequence[str]) -> int:
    paths = [Path(argument) for argument in arguments] or tracked_files()
    findings = sorted(check(paths))
    for finding in findings:
        print(finding)
    return 1 if findings else 0


def check(paths: Sequence[Path]) -> Iterator[Finding]:
    """Yield every finding in `paths`, which are relative to the root of the repository."""
    present = [path for path in paths if path.is_file()]
    for path in present:
        if path in EXEMPT:
            continue
        yield from prose.check(path)
        if path.suffix == ".py" and path.parts[0] in SOURCES and "migrations" not in path.parts:
            yield from names.check(path)
            yield from docstrings.check(path)
            yield from log_events.check(path)
        if path.suffix == ".py" and "migrations" in path.parts[:-1] and path.parts[0] != "tests":
            yield from migrations.check(path)
    yield from layout.check(present)


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    return [Path(name) for name in listing.split("\0") if name]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Collects the CSS, scripts and images of the dashboard, so that browsers can cache them.

At the start, the gateway collects the static files under names that contain a hash of their content, so that
browsers can cache them for years. Pages link one stylesheet, `css/app.css`. Its source imports other
stylesheets. In the collected file, their contents replace the imports. If files are not collected, as in
tests and development, the source files are served.
"""

import fcntl
import hashlib
import posixpath
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.files.base import ContentFile
from django.core.files.storage import Storage
from django.core.management import call_command
from servestatic.storage import CompressedManifestStaticFilesStorage

STYLESHEET = "css/app.css"
IMPORT = re.compile(r'^@import url\("([^"]+)"\);$', re.MULTILINE)

log = structlog.get_logger()


class StaticFilesStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Stores files under hashed names.

    If the collected files are out of date, links lead to the source files.
    """

    def load_manifest(self) -> tuple[dict[str, str], str]:
        return super().load_manifest() if is_collected() else ({}, "")

    def stored_name(self, name: str) -> str:
        stored: str = super().stored_name(name) if self.hashed_files else name
        return stored

    def post_process(self, paths: dict[str, tuple[Storage, str]], **options: Any) -> Iterator[Any]:
        """Inline the stylesheet's imports, and hash all files.

        The fingerprint of the sources is written last, so that an interrupted run counts as out of date.
        """
        if options.get("dry_run"):
            return
        fingerprint_file().unlink(missing_ok=True)
        self.delete(STYLESHEET)
        self.save(STYLESHEET, ContentFile(inline_imports(*paths[STYLESHEET]).encode()))
        yield from super().post_process({**paths, STYLESHEET: (self, STYLESHEET)}, **options)
        fingerprint_file().write_text(source_fingerprint())


def inline_imports(storage: Storage, path: str) -> str:
    """Return a stylesheet in which each import is replaced by the content of the imported stylesheet."""

    def imported(match: re.Match[str]) -> str:
        return read_text(storage, posixpath.join(posixpath.dirname(path), match[1]))

    return IMPORT.sub(imported, read_text(storage, path))


def read_text(storage: Storage, path: str) -> str:
    with storage.open(path) as file:
        content: bytes = file.read()
    return content.decode()


def collect_if_changed() -> None:
    """Collect static files if a source file has changed since the last collection.

    A lock ensures that processes with the same data directory do not collect at the same time. If the
    directory is not writable, the gateway serves the source files.
    """
    if settings.DEBUG or is_collected():
        return
    try:
        settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
        with (settings.STATIC_ROOT / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_collected():
                call_command("collectstatic", interactive=False, verbosity=0)
    except OSError as error:
        log.warning(
            "static_files_not_collected",
            message="Static files cannot be collected. The source files are served, without long caching.",
            error=str(error),
        )


def is_collected() -> bool:
    """Return whether the collected files are up to date."""
    try:
        return fingerprint_file().read_text() == source_fingerprint()
    except OSError:
        return False


def fingerprint_file() -> Path:
    root: Path = settings.STATIC_ROOT
    return root / ".fingerprint"


@lru_cache(maxsize=1)
def source_fingerprint() -> str:
    """Return a digest of all source files and of this module. Computing it takes about 10 ms."""
    digest = hashlib.blake2b(Path(__file__).read_bytes())
    for finder in get_finders():
        for path, storage in finder.list([]):
            digest.update(f"\n{path}\n".encode())
            digest.update(Path(storage.path(path)).read_bytes())
    return digest.hexdigest()

"""Installation of the npm packages for tests with agents, into a cache outside of the repository."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PACKAGES = Path(__file__).resolve().parent.parent / "clients" / "package.json"
OLDEST_NODE = 20
INSTALL_TIMEOUT_S = 240
INSTALL = ("install", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")


class NodeClientsMissing(Exception):
    """Raised if the packages cannot be used. The message says why."""


def install() -> Path:
    """Return the directory of the installed packages. Raises NodeClientsMissing."""
    require_node()
    digest = hashlib.sha256(PACKAGES.read_bytes()).hexdigest()[:16]
    directory = cache() / f"node-clients-{digest}"
    if not directory.exists():
        try:
            install_into(directory)
        except OSError as error:
            raise NodeClientsMissing(f"The npm packages cannot be stored: {error}.") from error
    return directory / "node_modules"


def require_node() -> None:
    if shutil.which("node") is None or shutil.which("npm") is None:
        raise NodeClientsMissing("Node.js and npm are not installed.")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        raise NodeClientsMissing(f"Node.js {version.strip()} is older than {OLDEST_NODE}.")


def cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "ai-gateway-tests"


def install_into(directory: Path) -> None:
    """Install into another directory, then rename it, so that an interrupted installation is not used."""
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        unfinished = Path(name) / "packages"
        unfinished.mkdir()
        shutil.copy(PACKAGES, unfinished)
        run_npm(unfinished)
        unfinished.rename(directory)


def run_npm(directory: Path) -> None:
    try:
        done = subprocess.run(
            ["npm", *INSTALL],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NodeClientsMissing(f"npm did not finish within {INSTALL_TIMEOUT_S} s.") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise NodeClientsMissing(f"npm could not install the packages: {lines[0]}")

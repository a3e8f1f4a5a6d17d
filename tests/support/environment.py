"""Isolated environment of the tests: without the caller's configuration, in a temporary directory."""

import os
import tempfile
from pathlib import Path

import certifi
import django

# Variables that a process needs to run. Keys, proxies, URLs and options of the caller are removed.
KEPT_VARIABLES = {
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "LANG",
    "TERM",
    "COLUMNS",
    "CI",
    "NO_COLOR",
    "FORCE_COLOR",
    "LD_LIBRARY_PATH",
}
KEPT_PREFIXES = ("PYTEST_", "PYTHON", "LC_", "HYPOTHESIS_", "PLAYWRIGHT_", "GATEWAY_TEST_")

TRANSPARENT = {
    "AI_GATEWAY_RETRY_ATTEMPTS": "0",
    "AI_GATEWAY_RETRY_DELAY_MS": "0",
    "AI_GATEWAY_BREAKER": "off",
    "AI_GATEWAY_RATE_LIMIT_RPM": "0",
}
"""The gateway makes one call for each request, and limits no key, so that tests count their own calls."""

ON_SERVERS = "GATEWAY_TEST_DATABASE_URLS" in os.environ
"""True if the tests run on PostgreSQL and Redis (`tests/run.py`), False in the embedded mode."""


def isolate() -> tempfile.TemporaryDirectory[str]:
    """Set up Django in its own environment; return the data directory, which the caller deletes."""
    for name in set(os.environ) - KEPT_VARIABLES:
        if not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    data = tempfile.TemporaryDirectory(prefix="gateway-data-", ignore_cleanup_errors=True)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        "AI_GATEWAY_ENV_FILE": os.devnull,
        "SSL_CERT_FILE": str(one_authority(Path(data.name))),
        "GATEWAY_DATA_DIR": data.name,
        "DATABASE_URL": server_of_worker("GATEWAY_TEST_DATABASE_URLS"),
        "REDIS_URL": server_of_worker("GATEWAY_TEST_REDIS_URLS"),
        "AI_GATEWAY_PROMPT_LOGGING": "false",  # tests of the prompt log turn it on
        "GATEWAY_REDIS_TIMEOUT_MS": "2000",  # a slow machine must not fail the tests
        **TRANSPARENT,
    }
    django.setup()
    return data


def one_authority(directory: Path) -> Path:
    """Write a file with one certificate authority, and return its path.

    Each new client of httpx and of the SDKs reads the trusted authorities. Reading all those of certifi takes
    30 ms of CPU, and no test needs them.
    """
    path = directory / "authority.pem"
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    path.write_text(first + end)
    return path


def server_of_worker(variable: str) -> str:
    """Return the URL that a variable lists for this process of pytest-xdist; empty if it lists none.

    The processes are called gw0, gw1 and so on. A run without processes uses the first URL.
    """
    urls = os.environ.get(variable, "").split()
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return urls[worker] if urls else ""

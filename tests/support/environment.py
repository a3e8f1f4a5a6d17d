"""The environment of the tests: nothing of the caller's configuration reaches them, and they leave nothing behind."""

import os
import tempfile

import django

# What a process needs in order to run; no key, proxy, address or option of the caller.
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

ON_SERVERS = "GATEWAY_TEST_DATABASE_URL" in os.environ
"""Whether these tests run on PostgreSQL and Redis (`tests/run.py`), in place of the embedded mode."""


def isolate() -> tempfile.TemporaryDirectory[str]:
    """Sets Django up in an environment of its own; returns the data directory, for the caller to clean up."""
    for name in set(os.environ) - KEPT_VARIABLES:
        if not name.startswith(KEPT_PREFIXES):
            del os.environ[name]
    data = tempfile.TemporaryDirectory(prefix="gateway-data-", ignore_cleanup_errors=True)
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
        "AI_GATEWAY_ENV_FILE": os.devnull,
        "GATEWAY_DATA_DIR": data.name,
        "DATABASE_URL": os.environ.get("GATEWAY_TEST_DATABASE_URL", ""),
        "REDIS_URL": os.environ.get("GATEWAY_TEST_REDIS_URL", ""),
        "GATEWAY_REDIS_TIMEOUT_MS": "2000",  # a slow machine is no failure
    }
    django.setup()
    return data

"""The environment variables that the gateway reads. Each except AI_GATEWAY_ENV_FILE is a field.

If variables are invalid, the gateway does not start, and reports all of them at once.
"""

import sys
from functools import lru_cache

from pydantic import ValidationError

from gateway_project.env.environment import Environment
from gateway_project.env.secrets_file import (
    PRIVATE_FILE_MODE,
    create_private_file,
    secrets_file,
    with_secrets,
)
from gateway_project.env.variables import BASE_DIR

__all__ = [
    "BASE_DIR",
    "PRIVATE_FILE_MODE",
    "Environment",
    "create_private_file",
    "load",
    "secrets_file",
    "with_secrets",
]


@lru_cache(maxsize=1)
def load() -> Environment:
    """Return the environment of this process. If it is invalid, print all errors and exit with status 2."""
    try:
        env = Environment()
    except ValidationError as error:
        for details in error.errors():
            name = "_".join(str(part) for part in details["loc"]).upper()
            print(f"configuration error: {name or 'environment'}: {details['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    env.gateway_data_dir.mkdir(parents=True, exist_ok=True)
    return with_secrets(env)

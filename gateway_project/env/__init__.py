"""The environment variables that the gateway reads. Each except AI_GATEWAY_ENV_FILE is a field.

If variables are invalid, the gateway does not start, and reports all of them at once.
"""

import os
import re
import sys
from functools import lru_cache
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from gateway_project.env.descriptions import describe
from gateway_project.env.environment import Environment
from gateway_project.env.secrets_file import (
    PRIVATE_FILE_MODE,
    create_private_file,
    secrets_file,
    with_secrets,
)
from gateway_project.env.variables import ADMIN, BASE_DIR, GATEWAY, WEB

__all__ = [
    "ADMIN",
    "BASE_DIR",
    "GATEWAY",
    "PRIVATE_FILE_MODE",
    "WEB",
    "Environment",
    "create_private_file",
    "load",
    "secrets_file",
    "tolerated_problems",
    "with_secrets",
]


class InvalidEnvironment(Exception):
    """Raised if variables are wrong. `problems` has one line for each of them."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


TOLERANT_COMMAND = "check_config"
"""The command that also reports other problems if variables are wrong, instead of ending at once."""
tolerated_problems: list[str] = []
"""Problems of the variables that were left out, if this process runs TOLERANT_COMMAND."""


@lru_cache(maxsize=1)
def load() -> Environment:
    """Return the environment of this process. If it is invalid, print all errors and exit with status 2."""
    try:
        return tolerant_read() if sys.argv[1:2] == [TOLERANT_COMMAND] else read()
    except InvalidEnvironment as error:
        for problem in error.problems:
            print(f"configuration error: {problem}", file=sys.stderr)
        raise SystemExit(2) from None


def read() -> Environment:
    """Return the valid environment, and create its folders and its secrets. Raises InvalidEnvironment."""
    problems = env_file_problems(os.environ.get("AI_GATEWAY_ENV_FILE"))
    try:
        env = Environment()
    except ValidationError as error:
        problems += map(describe, error.errors())
        raise InvalidEnvironment(*problems) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidEnvironment(f"AI_GATEWAY_ENV_FILE: it cannot be read: {error}") from None
    if problems:
        raise InvalidEnvironment(*problems)
    return with_files(env)


def tolerant_read() -> Environment:
    """Return the environment without its wrong variables, which `tolerated_problems` then contains.

    Raises InvalidEnvironment if something else than a variable is wrong.
    """
    try:
        return read()
    except InvalidEnvironment as error:
        tolerated_problems.extend(error.problems)
    set_variables_of_file()
    for _ in Environment.model_fields:
        try:
            return with_files(Environment(_env_file=None))
        except ValidationError as error:
            for details in error.errors():
                unset_variables(describe(details))
    raise InvalidEnvironment(*tolerated_problems)


def set_variables_of_file() -> None:
    """Move the variables of the file into the process, where they can be unset."""
    file = os.environ.get("AI_GATEWAY_ENV_FILE", ".env")
    for name, value in dotenv_values(file).items():
        if not os.environ.get(name.upper()) and value:
            os.environ[name.upper()] = value


def unset_variables(problem: str) -> None:
    """Unset the variable with a problem. If it is not set, unset those that the problem mentions."""
    name, _, text = problem.partition(": ")
    if os.environ.pop(name, None) is None:
        for mentioned in re.findall(r"[A-Z][A-Z_]{3,}", text):
            os.environ.pop(mentioned, None)


def env_file_problems(named: str | None) -> list[str]:
    """Return the problem that a file which the operator names is missing. `.env` may be missing."""
    is_missing = named and (not Path(named).exists() or Path(named).is_dir())
    return [f"AI_GATEWAY_ENV_FILE: there is no file {named}"] if is_missing else []


def with_files(env: Environment) -> Environment:
    """Create the folders of the data and of the SQLite file, and return the environment with its secrets."""
    folders = {"GATEWAY_DATA_DIR": env.gateway_data_dir}
    if not env.database_url:
        folders["DATABASE_PATH"] = env.sqlite_path.parent
    for variable, folder in folders.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidEnvironment(
                f"{variable}: the folder {folder} cannot be created: {error.strerror}"
            ) from None
    try:
        return with_secrets(env)
    except (OSError, ValueError, KeyError) as error:
        raise InvalidEnvironment(f"GATEWAY_DATA_DIR: {secrets_file(env)} cannot be used: {error}") from None

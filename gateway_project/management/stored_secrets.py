"""Rotation of the pepper of API keys in the file of generated secrets (`secrets.json`)."""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from gateway_project.env import Environment, create_private_file, secrets_file

PEPPER, ACCEPTED_PEPPERS = "key_pepper", "accepted_key_peppers"


def has_stored_pepper(env: Environment) -> bool:
    """Return whether the pepper comes from the file, and not from GATEWAY_KEY_PEPPER."""
    path = secrets_file(env)
    return path.exists() and json.loads(path.read_text()).get(PEPPER) == env.gateway_key_pepper


def rotate_pepper(env: Environment) -> None:
    """Generate a new pepper, and keep the previous ones as accepted peppers."""
    stored = json.loads(secrets_file(env).read_text())
    accepted = [stored[PEPPER], *stored.get(ACCEPTED_PEPPERS, ())]
    replace_file(env, stored | {PEPPER: secrets.token_urlsafe(32), ACCEPTED_PEPPERS: accepted})


def remove_accepted_peppers(env: Environment) -> None:
    stored = json.loads(secrets_file(env).read_text())
    replace_file(env, stored | {ACCEPTED_PEPPERS: []})


def replace_file(env: Environment, content: dict[str, Any]) -> None:
    """Replace the file atomically. The new file is readable only by its owner, like the earlier one."""
    path = secrets_file(env)
    temporary = path.with_name(f".{path.name}.rotated.{os.getpid()}")
    create_private_file(temporary, json.dumps(content, indent=1))
    Path(temporary).replace(path)

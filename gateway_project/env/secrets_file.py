"""The file of generated secrets in the data directory (`secrets.json`)."""

import json
import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet

from gateway_project.env.environment import Environment

PRIVATE_FILE_MODE = 0o600


def with_secrets(env: Environment) -> Environment:
    """Return the environment, completed with the generated secrets.

    Secrets that the environment does not set are taken from `secrets.json` in the data directory. The first
    start creates the file. If the gateway runs on several machines, all must have the same secrets, so
    GATEWAY_SECRET_KEY, GATEWAY_KEY_PEPPER and GATEWAY_ENCRYPTION_KEYS must be set.
    """
    if env.gateway_secret_key and env.gateway_key_pepper and env.gateway_encryption_keys:
        return env
    path = secrets_file(env)
    if not path.exists():
        create_private_file(path, json.dumps(new_secrets(), indent=1))
    stored = json.loads(path.read_text())
    return env.model_copy(
        update={
            "gateway_secret_key": env.gateway_secret_key or stored["secret_key"],
            "gateway_key_pepper": env.gateway_key_pepper or stored["key_pepper"],
            "gateway_accepted_key_peppers": env.gateway_accepted_key_peppers
            or tuple(stored.get("accepted_key_peppers", ())),
            "gateway_encryption_keys": env.gateway_encryption_keys or tuple(stored["encryption_keys"]),
        }
    )


def secrets_file(env: Environment) -> Path:
    return env.gateway_data_dir / "secrets.json"


def new_secrets() -> dict[str, str | list[str]]:
    return {
        "secret_key": secrets.token_urlsafe(48),
        "key_pepper": secrets.token_urlsafe(32),
        "encryption_keys": [Fernet.generate_key().decode()],
    }


def create_private_file(path: Path, text: str) -> None:
    """Create a file with PRIVATE_FILE_MODE atomically. If the file exists, it is not changed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()

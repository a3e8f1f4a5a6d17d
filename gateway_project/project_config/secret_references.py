"""References to secrets: a document states where a secret is, for example `env:NAME` or `stored`."""

from pathlib import Path

from django.conf import settings

from gateway_project.project_config.applier import Applier
from gateway_project.project_config.fields import parse_text
from projects.yaml_tree import Entry

STORED, NONE = "stored", "none"
ENV_PREFIX, FILE_PREFIX = "env:", "file:"
HOW = "write env:NAME for an environment variable, or file:PATH for a file."
MAX_LENGTH = 2000


def read_reference(reference: str) -> str:
    """Return the text that a reference names. Raises ValueError. No message contains a secret."""
    if reference.startswith(ENV_PREFIX):
        return from_variable(reference.removeprefix(ENV_PREFIX))
    if reference.startswith(FILE_PREFIX):
        return from_file(Path(reference.removeprefix(FILE_PREFIX)))
    raise ValueError(f"the document must not contain it: {HOW}")


def from_variable(name: str) -> str:
    if value := str(settings.ENV.variable(name)):
        return value
    raise ValueError(f"the environment variable {name} is not set.")


def from_file(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise ValueError(f"the file {path} cannot be read: {reason}.") from None
    if not text:
        raise ValueError(f"the file {path} is empty.")
    return text


def is_header_value(secret: str) -> bool:
    """Return whether a secret can be sent in an HTTP header."""
    return len(secret) <= MAX_LENGTH and all("!" <= character <= "~" for character in secret)


def read_secret(applier: Applier, entry: Entry, name: str, *, is_stored: bool) -> str | None:
    """Return the secret of an entry; None if the stored one stays. A wrong reference is a problem."""
    if name not in entry.nodes:
        return None
    try:
        reference = parse_text(applier.reader.plain(entry.nodes[name], entry.label))
        if reference == STORED:
            check_stored(is_stored)
            return None
        secret = "" if reference == NONE else read_reference(reference)
        if not is_header_value(secret):
            raise ValueError("it must have no spaces and special characters.")
    except ValueError as error:
        applier.add_problem(entry, name, str(error))
        return None
    return secret


def check_stored(is_stored: bool) -> None:
    if not is_stored:
        raise ValueError(f"the database does not contain it yet: {HOW}")

"""The file of hashed API keys that `export_api_keys` writes and `import_api_keys` reads.

It contains what the database contains: an HMAC of each secret, made with the pepper. With the same pepper,
the keys work in another installation. Without it, the file is of no use to anybody.
"""

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from django.conf import settings
from django.db import transaction

from gateway_project.bootstrap import get_or_create_demo_project
from gateway_project.env import create_private_file
from keys import scopes, tokens
from keys.models import ApiKey
from projects.models import DEMO_SLUG, Project

DEFAULT_PATH = Path("provision/secrets/hashed-api-keys.json")
VERSION = 1


class InvalidKeyFile(Exception):
    """Raised if a file cannot be imported. Nothing was imported. The message has one line per problem."""


class HashedKey(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """A key in the file. A limit is null if the key has no limit of its own."""

    id: str
    owner: str
    project: str
    scopes: list[str]
    digest: str
    pepper_id: str
    allowed_models: list[str] = []
    expires_at: dt.datetime | None = None
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    concurrency_limit: int | None = None

    @classmethod
    def from_key(cls, key: ApiKey) -> "HashedKey":
        own = {name: getattr(key, name) for name in COLUMNS}
        return cls(id=key.public_id, owner=key.label, project=key.project.slug, **own)

    def problems(self) -> Iterator[str]:
        """Yield why the key cannot be imported."""
        peppers = (settings.KEY_PEPPER, *settings.ACCEPTED_KEY_PEPPERS)
        if len(self.id) != tokens.PUBLIC_ID_LENGTH:
            yield f"the id has {len(self.id)} characters instead of {tokens.PUBLIC_ID_LENGTH}"
        if self.pepper_id not in map(tokens.pepper_id, peppers):
            yield "it was hashed with another pepper: set GATEWAY_KEY_PEPPER as in the other installation"
        if unknown := set(self.scopes) - set(scopes.ALL_SCOPES):
            yield f"unknown scopes: {', '.join(sorted(unknown))}"
        if self.project != DEMO_SLUG and not Project.objects.filter(slug=self.project).exists():
            yield f"there is no project {self.project}"

    def save(self) -> None:
        demo = self.project == DEMO_SLUG
        project = get_or_create_demo_project() if demo else Project.objects.get(slug=self.project)
        own = {name: getattr(self, name) for name in COLUMNS}
        ApiKey.objects.create(project=project, public_id=self.id, label=self.owner, **own)


COLUMNS = (
    *("scopes", "digest", "pepper_id", "allowed_models", "expires_at"),
    *("rpm_limit", "tpm_limit", "concurrency_limit"),
)
"""Columns of a key that the file contains under the same names."""


class KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """The content of the file."""

    version: int
    keys: list[HashedKey]


def write_keys(path: Path) -> int:
    """Write the usable keys into a file that only its owner can read. Return their number."""
    active = ApiKey.objects.active().select_related("project").order_by("pk")
    content = KeyFile(VERSION, [HashedKey.from_key(key) for key in active])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    create_private_file(temporary, f"{text}\n")
    temporary.replace(path)
    return len(content.keys)


@transaction.atomic
def read_keys(path: Path) -> tuple[int, int]:
    """Import the keys of a file. Return the numbers of new keys, and of keys that existed already.

    Existing keys are not changed, and revoked ones stay revoked. Raises InvalidKeyFile and OSError.
    """
    content = parse(path.read_bytes())
    existing = set(ApiKey.objects.values_list("public_id", flat=True))
    new = [key for key in content.keys if key.id not in existing]
    problems = [f"{key.owner} ({key.id}): {problem}" for key in new for problem in key.problems()]
    if problems:
        raise InvalidKeyFile("\n".join(problems))
    for key in new:
        key.save()
    return len(new), len(content.keys) - len(new)


def parse(data: bytes) -> KeyFile:
    try:
        content = msgspec.json.decode(data, type=KeyFile)
    except msgspec.DecodeError as error:
        raise InvalidKeyFile(f"the file is not valid: {error}") from None
    ids = [key.id for key in content.keys]
    if content.version != VERSION:
        raise InvalidKeyFile(f"the file has version {content.version}; this gateway reads version {VERSION}")
    if repeated := {id for id in ids if ids.count(id) > 1}:
        raise InvalidKeyFile(f"the file contains several keys with the id {', '.join(sorted(repeated))}")
    return content

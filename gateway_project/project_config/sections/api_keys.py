"""The section `keys`: the API keys of a project, by public id.

The document has no secrets of keys. A key can be created from its `digest`, which only the gateway can
compute, and which is valid only with the same GATEWAY_KEY_PEPPER. `pepper_id` identifies the pepper. A
digest changes when the key is used after a rotation of the pepper, so only digests with the same pepper are
compared.
"""

import re
from typing import Any

import yaml
from django.conf import settings
from django.utils import timezone

from gateway_project.project_config.applier import Applier, export_row
from gateway_project.project_config.fields import Field, limit, moment, parse_flag, parse_texts, text, texts
from keys import scopes, tokens
from keys.models import ApiKey
from projects.models import Project
from projects.yaml_tree import Entry

DIGEST = re.compile(r"[0-9a-f]{64}")
PUBLIC_ID = re.compile(f"[A-Za-z0-9]{{{tokens.PUBLIC_ID_LENGTH}}}")


def parse_scopes(value: Any) -> list[str]:
    """Parse a list of scopes. Raises UnknownScope, which is a ValueError."""
    return scopes.parse(" ".join(parse_texts(value)))


FIELDS = (
    text("name", "label"),
    Field("scopes", "scopes", parse_scopes),
    texts("allowed_models"),
    moment("expires_at"),
    limit("rpm_limit"),
    limit("tpm_limit"),
    limit("concurrency_limit"),
)
NAMES = (*(field.name for field in FIELDS), "revoked", "digest", "pepper_id")


def export_keys(project: Project) -> dict[str, Any]:
    return {
        row.public_id: {
            **export_row(row, FIELDS),
            "revoked": row.revoked_at is not None,
            "digest": row.digest,
            "pepper_id": row.pepper_id,
        }
        for row in ApiKey.objects.for_project(project)
    }


def apply_keys(applier: Applier, project: Project, node: yaml.Node) -> None:
    entries = applier.reader.mapping(node, f"{project.slug}: keys")
    for public_id, value in entries.items():
        entry = applier.reader.entry(value, f"{project.slug}: key {public_id}", NAMES)
        apply_key(applier, project, public_id, entry)
    others = ApiKey.objects.for_project(project).exclude(public_id__in=entries).filter(revoked_at=None)
    for row in others if applier.prunes else ():
        row.revoke()
        applier.remove(f"{project.slug}: key {row.public_id} ({row.label})", "revoked")


def apply_key(applier: Applier, project: Project, public_id: str, entry: Entry) -> None:
    row = ApiKey.objects.filter(public_id=public_id).first() or ApiKey(project=project, public_id=public_id)
    try:
        details = [*check_identity(applier, row, project, entry), *set_revoked(applier, row, entry)]
    except ValueError as error:
        applier.add_problem(entry, "", str(error))
        return
    applier.save(row, entry, FIELDS, details=details, columns=("revoked_at",))


def check_identity(applier: Applier, row: ApiKey, project: Project, entry: Entry) -> list[str]:
    """Raise ValueError if a key belongs to another project, or cannot be created."""
    digest, pepper_id = (read(applier, entry, name) for name in ("digest", "pepper_id"))
    if row.project_id != project.pk:
        raise ValueError("this key belongs to another project.")
    if row._state.adding:
        check_new_key(row, digest, pepper_id)
        row.digest, row.pepper_id = str(digest), str(pepper_id)
        return ["digest: from the document"]
    if digest not in (None, row.digest) and pepper_id == row.pepper_id:
        raise ValueError("its digest differs from the stored one; create a new key instead.")
    return []


def check_new_key(row: ApiKey, digest: Any, pepper_id: Any) -> None:
    """Raise ValueError if a key cannot be created from its digest."""
    if digest is None:
        raise ValueError(
            "this key does not exist, and without its digest it cannot be created; create a key with "
            "create_api_key, and write its public id here."
        )
    if not PUBLIC_ID.fullmatch(row.public_id) or not DIGEST.fullmatch(str(digest)):
        raise ValueError("its public id or its digest is not one that export_config writes.")
    if pepper_id not in map(tokens.pepper_id, (settings.KEY_PEPPER, *settings.ACCEPTED_KEY_PEPPERS)):
        raise ValueError("its digest was made with another GATEWAY_KEY_PEPPER, so the key would not work.")


def read(applier: Applier, entry: Entry, name: str) -> Any:
    """Return a value of an entry; None if it does not have the value."""
    return applier.reader.plain(entry.nodes[name], entry.label) if name in entry.nodes else None


def set_revoked(applier: Applier, row: ApiKey, entry: Entry) -> list[str]:
    """Revoke a key if its entry says so. Return the difference. Raises ValueError."""
    if "revoked" not in entry.nodes:
        return []
    is_revoked = parse_flag(applier.reader.plain(entry.nodes["revoked"], entry.label))
    if row.revoked_at is not None and not is_revoked:
        raise ValueError("this key was revoked and cannot become valid again; create a new key.")
    if is_revoked == (row.revoked_at is not None):
        return []
    row.revoked_at = timezone.now()
    return ["revoked: true"]

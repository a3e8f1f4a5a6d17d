"""The section `credentials`: the accounts of a project at providers, by name."""

from typing import Any

import yaml

from gateway_project.project_config.applier import Applier, export_row
from gateway_project.project_config.fields import text, texts
from gateway_project.project_config.secret_references import NONE, STORED, read_secret
from projects.models import Project
from projects.vault import DecryptionError
from projects.yaml_tree import Entry
from proxy.models import Credential

FIELDS = (text("provider"), text("base_url"), texts("models", "model_names"))
NAMES = (*(field.name for field in FIELDS), "secret")


def export_credentials(project: Project) -> dict[str, Any]:
    return {
        row.slug: {**export_row(row, FIELDS), "secret": STORED if row.sealed_secret else NONE}
        for row in Credential.objects.for_project(project)
    }


def apply_credentials(applier: Applier, project: Project, node: yaml.Node) -> None:
    entries = applier.reader.mapping(node, f"{project.slug}: credentials")
    stored = {row.slug: row for row in Credential.objects.for_project(project)}
    for slug, value in entries.items():
        entry = applier.reader.entry(value, f"{project.slug}: credential {slug}", NAMES)
        apply_credential(applier, stored.get(slug) or Credential(project=project, slug=slug), entry)
    for slug in stored.keys() - entries.keys() if applier.prunes else ():
        stored[slug].delete()
        applier.remove(f"{project.slug}: credential {slug}")


def apply_credential(applier: Applier, row: Credential, entry: Entry) -> None:
    place, had_secret = (row.provider, row.base_url), bool(row.sealed_secret)
    details = set_secret(row, read_secret(applier, entry, "secret", is_stored=had_secret))
    columns = ("sealed_secret", "secret_suffix") if details else ()
    is_saved = applier.save(row, entry, FIELDS, details=details, columns=columns)
    if is_saved and had_secret and not details and place != (row.provider, row.base_url):
        text = "the stored key is sent only to the URL for which it was stored; give the key for this URL."
        applier.add_problem(entry, "secret", text)


def set_secret(row: Credential, secret: str | None) -> list[str]:
    """Store a secret that differs from the stored one. Return the difference, without the secret."""
    if secret is None or secret == stored_secret(row):
        return []
    row.set_secret(secret)
    return ["secret: replaced" if secret else "secret: removed"]


def stored_secret(row: Credential) -> str | None:
    """Return the stored secret; None if it cannot be decrypted, so that it is replaced."""
    try:
        return row.decrypt_secret()
    except DecryptionError:
        return None

"""The section `webhooks`: the URLs that receive the alerts of a project, by name."""

import base64
import binascii
from typing import Any
from urllib.parse import urlsplit

import yaml

from billing.models import Webhook
from billing.models.webhooks import SECRET_PREFIX
from gateway_project.project_config.applier import Applier
from gateway_project.project_config.fields import parse_text
from gateway_project.project_config.secret_references import (
    ENV_PREFIX,
    FILE_PREFIX,
    HOW,
    STORED,
    check_stored,
    read_reference,
    read_secret,
)
from projects import vault
from projects.models import Project
from projects.yaml_tree import Entry

NAMES = ("url", "secret")
MIN_SECRET_BYTES = 24


def export_webhooks(project: Project) -> dict[str, Any]:
    return {
        row.name: {"url": exported_url(row.url), "secret": STORED}
        for row in Webhook.objects.for_project(project)
    }


def exported_url(url: str) -> str:
    """Return a URL; `stored` if its path or query may contain a token."""
    parts = urlsplit(url)
    return STORED if parts.path.strip("/") or parts.query else url


def apply_webhooks(applier: Applier, project: Project, node: yaml.Node) -> None:
    entries = applier.reader.mapping(node, f"{project.slug}: webhooks")
    stored = {row.name: row for row in Webhook.objects.for_project(project)}
    for name, value in entries.items():
        entry = applier.reader.entry(value, f"{project.slug}: webhook {name}", NAMES)
        apply_webhook(applier, stored.get(name) or Webhook(project=project, name=name), entry)
    for name in stored.keys() - entries.keys() if applier.prunes else ():
        stored[name].delete()
        applier.remove(f"{project.slug}: webhook {name}")


def apply_webhook(applier: Applier, row: Webhook, entry: Entry) -> None:
    try:
        details = [*set_url(applier, row, entry), *set_secret(applier, row, entry)]
    except ValueError as error:
        applier.add_problem(entry, "", str(error))
        return
    applier.save(row, entry, (), details=details, columns=("url", "sealed_secret"))


def set_url(applier: Applier, row: Webhook, entry: Entry) -> list[str]:
    """Set the URL of an entry. Return the difference, which shows only the host. Raises ValueError."""
    if "url" not in entry.nodes:
        return []
    url = parse_text(applier.reader.plain(entry.nodes["url"], entry.label))
    if url == STORED:
        check_stored(not row._state.adding)
        return []
    url = read_reference(url) if url.startswith((ENV_PREFIX, FILE_PREFIX)) else url
    is_same, row.url = url == row.url, url
    return [] if is_same else [f"url: now at {row.host}"]


def set_secret(applier: Applier, row: Webhook, entry: Entry) -> list[str]:
    """Set the signing secret of an entry. Return the difference. Raises ValueError."""
    secret = read_secret(applier, entry, "secret", is_stored=bool(row.sealed_secret))
    if secret is None and not row.sealed_secret and "secret" not in entry.nodes:
        raise ValueError(f"a new webhook needs a signing secret: {HOW}")
    if secret is None or secret == stored_secret(row):
        return []
    check_secret(secret)
    row.sealed_secret = vault.seal(row.project_id, secret)
    return ["secret: replaced"]


def stored_secret(row: Webhook) -> str | None:
    """Return the stored secret; None if there is none, or if it cannot be decrypted."""
    try:
        return vault.unseal(row.project_id, row.sealed_secret) if row.sealed_secret else None
    except vault.DecryptionError:
        return None


def check_secret(secret: str) -> None:
    """Raise ValueError unless a secret has the form of the Standard Webhooks specification."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or len(key) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the signing secret must be {SECRET_PREFIX} and base64 of at least {MIN_SECRET_BYTES} bytes."
        )

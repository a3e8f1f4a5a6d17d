"""export_project, delete_project and prune: complete, without secrets, and bounded to one project."""

import builtins
import io
import json
import tarfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing.models import ArchivedUsage, Budget, UsageRecord
from gateway_project.management import project_data
from gateway_project.management.project_data import project_tables
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from proxy.models import Credential, IdempotentRequest, IssuedId, PromptLogEntry
from proxy.prompt_log.body import LoggedBody
from tests.support.factories import SECRET, daily, key_in_other_project, project_objects, record, webhook_at

HOOK = "https://hooks.example.org/T0/secret-path"


@pytest.fixture
def acme(project: Project, key: ApiKey, alice: User) -> Project:
    credential = Credential(project=project, slug="main", provider="openai")
    credential.set_secret(SECRET)
    credential.save()
    webhook_at(project, HOOK)
    project_objects(project)
    Budget.objects.get().alert_members.set(project.memberships.filter(user=alice))
    for _ in range(3):
        record(key, cost_nano=5)
    daily(key, project.today(), 15)
    sealed = LoggedBody("What is the capital?", "Paris").seal(project.pk)
    PromptLogEntry.objects.create(id=uuid7(), project=project, sealed_body=sealed)
    return project


def run(command: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


def test_an_export_has_every_table_and_no_secret(acme: Project, key: ApiKey, tmp_path: Path) -> None:
    theirs = key_in_other_project(User.objects.create_user("dora@example.org"))
    record(theirs)
    path = tmp_path / "acme.tar.gz"
    run("export_project", "acme", "-o", str(path))
    with tarfile.open(path) as archive:
        files = {
            entry.name: archive.extractfile(entry).read().decode()  # type: ignore[union-attr]
            for entry in archive.getmembers()
        }
    manifest = json.loads(files.pop("manifest.json"))
    assert manifest["project"] == "acme"
    assert {name: len(text.splitlines()) for name, text in files.items()} == {
        f"{name}.jsonl": count for name, count in manifest["rows"].items()
    }
    assert manifest["rows"]["billing.usagerecord"] == 3
    assert manifest["rows"]["billing.budget_alert_members"] == 1
    assert "Paris" in files["proxy.promptlogentry.jsonl"]
    assert "alice@example.org" in files["projects.membership.jsonl"]
    assert json.loads(files["billing.usagerecord.jsonl"].splitlines()[0])["cost_nano"] == 5
    assert "first_token_us" in files["billing.usagerecord.jsonl"]
    everything = "\n".join(files.values())
    for secret in (SECRET, "secret-path", key.digest, theirs.public_id, "sealed_secret", "dora@"):
        assert secret not in everything


def test_every_table_with_a_project_is_found() -> None:
    found = {table.model._meta.label for table in project_tables()}
    assert {"keys.ApiKey", "billing.UsageRecord", "billing.BudgetWindow", "proxy.Route"} <= found
    assert "projects.User" not in found


def test_a_deletion_says_what_it_deletes_and_deletes_only_that(
    acme: Project, key: ApiKey, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project_data, "BATCH_SIZE", 2)
    theirs = key_in_other_project(charlie)
    record(theirs)
    printed = run("delete_project", "acme", "--yes")
    assert "3 billing.usagerecord" in printed and "1 projects.project" in printed
    assert not Project.objects.filter(slug="acme").exists()
    assert UsageRecord.objects.get().key == theirs
    assert User.objects.filter(email="alice@example.org").exists()
    for table in project_tables():
        assert not table.rows(acme).exists(), table


@pytest.mark.parametrize(("answer", "is_deleted"), [("acme", True), ("yes", False), (None, False)])
def test_a_deletion_asks_for_the_slug(
    acme: Project, monkeypatch: pytest.MonkeyPatch, answer: str | None, is_deleted: bool
) -> None:
    def reply(_: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr(builtins, "input", reply)
    if is_deleted:
        run("delete_project", "acme")
    else:
        with pytest.raises(CommandError, match="Nothing was deleted"):
            run("delete_project", "acme")
    assert Project.objects.filter(slug="acme").exists() is not is_deleted
    assert ApiKey.objects.active().exists() is not is_deleted


@pytest.mark.parametrize("command", ["export_project", "delete_project"])
def test_an_unknown_project_is_refused(db: None, command: str) -> None:
    with pytest.raises(CommandError, match="There is no project nope"):
        run(command, "nope")


def test_prune_deletes_what_has_expired(
    acme: Project, key: ApiKey, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_retention_days=40)
    record(key, day=acme.today() - timedelta(days=100), cost_nano=7)
    past = timezone.now() - timedelta(days=1)
    IdempotentRequest.objects.create(
        project=acme, key="k", fingerprint="f", claim_id=uuid7(), expires_at=past, sealed_response="x"
    )
    IssuedId.objects.create(project=acme, account="a", kind="file", digest="d", expires_at=past)
    printed = run("prune")
    assert [line.split()[0] for line in printed.splitlines()] == ["1", "0", "1", "1"]
    assert (UsageRecord.objects.count(), ArchivedUsage.objects.get().cost_nano) == (3, 7)
    change_environment(gateway_retention_days=None)
    assert "GATEWAY_RETENTION_DAYS is not set" in run("prune")

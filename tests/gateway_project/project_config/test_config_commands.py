"""export_config and apply_config: round trips, differences, all problems at once, all changes or none."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, call_command

from billing.models import Budget, PriceOverride, Webhook
from keys.models import ApiKey
from projects.models import ConfigVersion, Membership, Project, Role, User
from proxy.models import Credential, PromptLogSettings, Route
from tests.support.factories import SECRET, USD, webhook_at

Run = Callable[..., str]
HOOK = "https://hooks.example.org/T0/secret-path"


@pytest.fixture
def acme(project: Project, alice: User) -> Project:
    """A project with a row in each section."""
    key, _ = ApiKey.objects.issue(project, "app", rpm_limit=60)
    credential = Credential(project=project, slug="main", provider="openai", model_names=["gpt-5.2"])
    credential.set_secret(SECRET)
    credential.save()
    hook, _ = webhook_at(project, HOOK)
    budget = Budget.objects.create(project=project, key=key, period="month", limit_nano=25 * USD)
    budget.alert_members.set(project.memberships.filter(user=alice))
    budget.alert_webhooks.set([hook])
    Route.objects.create(project=project, name="fast", targets=[{"provider": "main", "model": "gpt-5.2"}])
    PriceOverride.objects.create(project=project, model="llama-*", input_nano=USD // 10, output_nano=USD)
    PriceOverride.objects.create(model="own-model", input_nano=1, output_nano=2)
    PromptLogSettings.objects.create(project=project, mode="off")
    return project


@pytest.fixture
def apply(tmp_path: Path) -> Run:
    """Return a function that applies a document, given as text or as objects, and returns the output."""

    def run(document: str | dict[str, Any], *options: str) -> str:
        file, out = tmp_path / "config.yaml", io.StringIO()
        file.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
        call_command("apply_config", str(file), *options, stdout=out)
        return out.getvalue()

    return run


def export(*options: str) -> str:
    out = io.StringIO()
    call_command("export_config", *options, stdout=out)
    return out.getvalue()


def document(**project: Any) -> dict[str, Any]:
    return {"version": 1, "projects": {"acme": project}}


def problems(apply: Run, source: str | dict[str, Any], *options: str) -> list[str]:
    with pytest.raises(CommandError) as error:
        apply(source, *options)
    assert error.value.returncode == 2
    first, *lines = str(error.value).splitlines()
    assert "Nothing was changed." in first
    return lines


def test_applying_an_export_changes_nothing(acme: Project, apply: Run) -> None:
    version = ConfigVersion.current()
    assert apply(export()) == "No changes.\n"
    assert apply(export(), "--prune") == "No changes.\n"
    assert ConfigVersion.current() == version


def test_an_export_contains_no_secret(acme: Project) -> None:
    exported = export()
    assert SECRET not in exported
    assert "secret-path" not in exported
    assert Webhook.objects.get().signing_key().hex() not in exported


def test_a_deleted_project_is_restored_from_its_export(
    acme: Project, apply: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, before = export(), yaml.safe_load(export("--project", acme.slug))
    acme.delete()
    monkeypatch.setenv("KEY", SECRET)
    monkeypatch.setenv("HOOK_URL", HOOK)
    monkeypatch.setenv("HOOK_SECRET", "whsec_" + "QUJD" * 10)
    document = yaml.safe_load(exported)
    document["projects"]["acme"]["credentials"]["main"]["secret"] = "env:KEY"
    document["projects"]["acme"]["webhooks"]["pager"] = {"url": "env:HOOK_URL", "secret": "env:HOOK_SECRET"}
    assert "+ acme: budget" in apply(document)
    assert yaml.safe_load(export("--project", "acme")) == before
    assert Credential.objects.get().decrypt_secret() == SECRET
    assert apply(document) == "No changes.\n"


def test_a_dry_run_prints_the_differences_only(acme: Project, apply: Run) -> None:
    change = document(
        timezone="Europe/Berlin", keys={}, routes={"new": [{"targets": [{"provider": "main"}]}]}
    )
    printed = apply(change, "--dry-run")
    assert "~ acme\n    timezone: UTC → Europe/Berlin\n+ acme: route new" in printed
    assert "Nothing was written" in printed
    acme.refresh_from_db()
    assert (acme.timezone, Route.objects.count()) == ("UTC", 1)


def test_rows_that_the_file_does_not_mention_stay(acme: Project, apply: Run) -> None:
    assert apply(document(keys={}, credentials={}, webhooks={}, budgets=[], routes={}, prices=[])) == (
        "No changes.\n"
    )
    assert Membership.objects.filter(project=acme).count() == 2


def test_prune_revokes_keys_ends_prices_and_deletes_other_rows(acme: Project, apply: Run) -> None:
    printed = apply(
        document(keys={}, credentials={}, webhooks={}, budgets=[], routes={}, prices=[]), "--prune"
    )
    assert printed.count("\n- ") + printed.startswith("- ") == 6
    assert not ApiKey.objects.active().exists()
    assert not (Credential.objects.exists() or Webhook.objects.exists() or Budget.objects.exists())
    assert not Route.objects.exists()
    assert PriceOverride.objects.get(project=acme).ended_at is not None
    assert PriceOverride.objects.get(project=None).ended_at is None
    assert Membership.objects.filter(project=acme).count() == 2
    assert "No changes." in apply(document(keys={}, budgets=[], prices=[]), "--prune")


def test_prune_leaves_sections_that_the_file_does_not_have(acme: Project, apply: Run) -> None:
    assert apply(document(timezone="UTC"), "--prune") == "No changes.\n"


def test_all_problems_are_reported_with_their_lines(acme: Project, apply: Run) -> None:
    source = """\
version: 1
projects:
  acme:
    timezon: UTC
    rpm_limit: many
    budgets:
      - period: fortnight
        limit_usd: 5
      - period: day
        mode: soft
        limit_usd: 0
    credentials:
      main:
        provider: openia
      extra:
        provider: openai
        secret: sk-proj-abc
    routes:
      broken:
        - targets: [{provider: nowhere, model: x}]
    keys:
      AAAAAAAAAAAA: {name: unknown}
  new: {name: New}
"""
    found = problems(apply, source)
    for line, text in {
        4: "timezon is not known. Did you mean timezone?",
        5: "rpm_limit: it must be a whole number",
        7: "fortnight",
        11: "limit_usd: A limit of 0 is only possible",
        14: "openia",
        17: "secret: the document must not contain it",
        22: "this key does not exist",
        23: "new cannot be the name of a new project",
    }.items():
        assert any(each.startswith(f"line {line}: ") and text in each for each in found), (line, text, found)
    assert "sk-proj-abc" not in "\n".join(found)
    assert Budget.objects.count() == 1


def test_a_route_to_a_missing_credential_is_a_problem(acme: Project, apply: Run) -> None:
    routes = {"broken": [{"targets": [{"provider": "nowhere", "model": "x"}]}], "odd": [{"strategy": "best"}]}
    found = "\n".join(problems(apply, document(routes=routes)))
    assert "nowhere" in found
    assert "best" in found


def test_routes_of_a_name_are_replaced_in_order(acme: Project, apply: Run) -> None:
    target = [{"provider": "main", "model": "gpt-5.2"}]
    ruled = [{"targets": target, "rule": {"headers": {"x-tier": "gold"}}}, {"targets": target}]
    apply(document(routes={"fast": ruled}))
    assert [route.rule for route in Route.objects.order_by("pk")] == [{"headers": {"x-tier": "gold"}}, {}]
    apply(document(routes={"fast": ruled[1:]}))
    assert [route.rule for route in Route.objects.all()] == [{}]


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", "the document is empty"),
        ("version: 2", "version: 1 is expected"),
        ("version: 1\nprojects:\n  acme: {name: [}", "line 3: this is not valid YAML"),
        ("version: 1\nprojects:\n  acme: {name: A}\n  acme: {name: B}", "acme is there twice"),
        ("version: 1\nprojects: [acme]", "names with values are expected"),
        ("version: 1\nprojects: {acme: {keys: {a: [1]}}}", "names with values are expected"),
        ("version: 1\nprojects: {acme: {budgets: {day: 1}}}", "a list is expected here"),
        ("version: 1\nprojects: {acme: {cache_ttl_s: 5}}", "greater than or equal to 60"),
        ("version: 1\nprojects: {acme: {name: 2026-99-99}}", "this value cannot be read"),
        ("version: 1\nprojects: {acme: {name: 5}}", "it must be a text"),
        ("version: 1\nprojects: {acme: {members: {alice@example.org: chief}}}", "it must be one of"),
        ("version: 1\nprojects: {acme: {members: {alice@example.org: viewer}}}", "would have no owner"),
        ("version: 1\nprices: [{model: a}]", "effective_from"),
        ("version: 1\nprices: [{model: a, effective_from: 2026-01-01T00:00:00}]", "must have a timezone"),
    ],
)
def test_an_invalid_document_is_refused(acme: Project, apply: Run, source: str, text: str) -> None:
    assert text in "\n".join(problems(apply, source))


def test_a_stored_secret_is_not_sent_to_another_url(acme: Project, apply: Run) -> None:
    moved = {"provider": "openai", "base_url": "https://proxy.example.org/v1"}
    assert "give the key for this URL" in problems(apply, document(credentials={"main": moved}))[0]


def test_secrets_are_read_from_files_and_compared(acme: Project, apply: Run, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-new-secret-of-a-provider\n")
    change = document(credentials={"main": {"secret": f"file:{file}"}})
    assert "secret: replaced" in apply(change)
    assert Credential.objects.get().decrypt_secret() == "sk-new-secret-of-a-provider"
    assert apply(change) == "No changes.\n"


def test_a_missing_variable_or_file_is_a_problem(acme: Project, apply: Run) -> None:
    credentials = {
        "a": {"provider": "openai", "secret": "env:NOT_SET_HERE"},
        "main": {"secret": "file:/none"},
    }
    found = "\n".join(problems(apply, document(credentials=credentials)))
    assert "NOT_SET_HERE is not set" in found
    assert "/none cannot be read: No such file" in found


def test_a_revoked_key_stays_revoked(acme: Project, apply: Run) -> None:
    exported = export()
    ApiKey.objects.get().revoke()
    assert "cannot become valid again" in problems(apply, exported)[0]


def test_a_digest_of_an_existing_key_cannot_change(acme: Project, apply: Run) -> None:
    keys = {ApiKey.objects.get().public_id: {"digest": "0" * 64, "pepper_id": ApiKey.objects.get().pepper_id}}
    assert "differs from the stored one" in problems(apply, document(keys=keys))[0]


def test_a_key_of_another_project_is_a_problem(acme: Project, apply: Run) -> None:
    theirs, _ = ApiKey.objects.issue(Project.objects.create_with_owner("Other"), "theirs")
    found = problems(apply, document(keys={theirs.public_id: {"name": "mine"}}))
    assert "belongs to another project" in found[0]


def test_members_get_roles_if_they_have_accounts(acme: Project, charlie: User, apply: Run) -> None:
    printed = apply(document(members={charlie.email: "admin", "dora@example.org": "viewer"}))
    assert "note: acme: members: dora@example.org has no account yet" in printed
    assert acme.memberships.get(user=charlie).role == Role.ADMIN


def test_a_changed_budget_counts_as_changed_now(acme: Project, apply: Run) -> None:
    before = Budget.objects.get()
    key = ApiKey.objects.get().public_id
    printed = apply(document(budgets=[{"key": key, "period": "month", "limit_usd": 50, "alert_members": []}]))
    assert "limit_usd: 25 → 50" in printed
    assert "alert_members: alice@example.org → none" in printed
    after = Budget.objects.get()
    assert (after.pk, after.limit_nano) == (before.pk, 50 * USD)
    assert after.changed_at > before.changed_at


def test_a_file_can_be_written_and_unknown_projects_are_refused(acme: Project, tmp_path: Path) -> None:
    assert "The configuration was written" in export("--project", "acme", "-o", str(tmp_path / "out.yaml"))
    assert "acme" in yaml.safe_load((tmp_path / "out.yaml").read_text())["projects"]
    with pytest.raises(CommandError, match="There is no project nope"):
        export("--project", "nope")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("apply_config", str(tmp_path / "missing.yaml"))

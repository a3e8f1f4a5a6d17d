"""The section `budgets`: limits of a project and of its keys, and who gets their alerts.

A budget is identified by its key, period and mode. The ledger counts the spent amounts of new budgets from
the usage records, so the document has no balances.
"""

from collections.abc import Iterable
from typing import Any

import yaml

from billing.models import Budget, Webhook
from billing.models.budgets import BudgetQuerySet
from gateway_project.project_config.applier import CHANGED, Applier, Change, export_row, shown
from gateway_project.project_config.fields import amount, items, parse_text, parse_texts
from keys.models import ApiKey
from projects.models import Membership, Project
from projects.yaml_tree import Entry

IDENTITY = ("key", "period", "mode")
FIELDS = (amount("limit_usd", "limit_nano"), items("thresholds"))
RECIPIENTS = ("alert_members", "alert_webhooks")
NAMES = (*IDENTITY, *(field.name for field in FIELDS), *RECIPIENTS)
Identity = tuple[str, str, str]


def stored_budgets(project: Project) -> BudgetQuerySet:
    return Budget.objects.for_project(project).prefetch_related("alert_members__user", "alert_webhooks")


def identity_of(budget: Budget) -> Identity:
    return budget.key.public_id if budget.key else "", budget.period, budget.mode


def recipients_of(budget: Budget) -> dict[str, list[str]]:
    members = sorted(member.user.email for member in budget.alert_members.all())
    return {
        "alert_members": members,
        "alert_webhooks": sorted(hook.name for hook in budget.alert_webhooks.all()),
    }


def export_budgets(project: Project) -> list[dict[str, Any]]:
    return [
        {
            **dict(zip(IDENTITY, (key or None, period, mode), strict=True)),
            **export_row(row, FIELDS),
            **recipients_of(row),
        }
        for row in stored_budgets(project)
        for key, period, mode in [identity_of(row)]
    ]


def apply_budgets(applier: Applier, project: Project, node: yaml.Node) -> None:
    stored = {identity_of(row): row for row in stored_budgets(project)}
    seen: set[Identity] = set()
    for value in applier.reader.sequence(node, f"{project.slug}: budgets"):
        entry = applier.reader.entry(value, f"{project.slug}: budget", NAMES)
        apply_budget(applier, project, entry, stored, seen)
    for identity in stored.keys() - seen if applier.prunes else ():
        stored[identity].delete()
        applier.remove(label_of(project, identity))


def label_of(project: Project, identity: Identity) -> str:
    return f"{project.slug}: budget {' '.join(filter(None, identity))}"


def apply_budget(
    applier: Applier, project: Project, entry: Entry, stored: dict[Identity, Budget], seen: set[Identity]
) -> None:
    if (identity := read_identity(applier, entry, seen)) is None:
        return
    seen.add(identity)
    entry = Entry(label_of(project, identity), entry.line, entry.nodes)
    row = stored.get(identity) or new_budget(applier, project, identity, entry)
    if row and applier.save(row, entry, FIELDS, columns=("changed_at",)):
        set_recipients(applier, row, entry)


def read_identity(applier: Applier, entry: Entry, seen: set[Identity]) -> Identity | None:
    """Return the key, the period and the mode of an entry; None if there is a problem."""
    try:
        identity = parse_identity(applier, entry)
        if identity in seen:
            raise ValueError("the document has two budgets with this key, period and mode.")
    except ValueError as error:
        applier.add_problem(entry, "", str(error))
        return None
    return identity


def parse_identity(applier: Applier, entry: Entry) -> Identity:
    values = {
        name: applier.reader.plain(entry.nodes[name], entry.label) for name in IDENTITY if name in entry.nodes
    }
    if values.get("period") is None:
        raise ValueError("it needs a period: day, week, month or total.")
    mode = parse_text(values.get("mode") or Budget._meta.get_field("mode").default)
    return parse_text(values.get("key") or ""), parse_text(values["period"]), mode


def new_budget(applier: Applier, project: Project, identity: Identity, entry: Entry) -> Budget | None:
    """Return a new budget; None if its key does not exist, which is a problem."""
    public_id, period, mode = identity
    key = ApiKey.objects.for_project(project).filter(public_id=public_id).first()
    if public_id and key is None:
        applier.add_problem(entry, "key", "the project does not have this key.")
        return None
    return Budget(project=project, key=key, period=period, mode=mode)


def set_recipients(applier: Applier, budget: Budget, entry: Entry) -> None:
    """Set who gets the alerts of a budget, if its entry names them."""
    before = recipients_of(budget)
    try:
        wanted = {
            name: sorted(parse_texts(applier.reader.plain(entry.nodes[name], entry.label)))
            for name in RECIPIENTS
            if name in entry.nodes
        }
    except ValueError as error:
        applier.add_problem(entry, "", str(error))
        return
    if "alert_members" in wanted and wanted["alert_members"] != before["alert_members"]:
        budget.alert_members.set(find_members(applier, budget, entry, wanted["alert_members"]))
    if "alert_webhooks" in wanted and wanted["alert_webhooks"] != before["alert_webhooks"]:
        budget.alert_webhooks.set(find_webhooks(applier, budget, entry, wanted["alert_webhooks"]))
    note_recipients(applier, entry, before, recipients_of(stored_budgets(budget.project).get(pk=budget.pk)))


def note_recipients(
    applier: Applier, entry: Entry, before: dict[str, list[str]], after: dict[str, list[str]]
) -> None:
    details = [
        f"{name}: {shown(before[name])} → {shown(after[name])}"
        for name in RECIPIENTS
        if before[name] != after[name]
    ]
    if details:
        applier.changes.append(Change(CHANGED, entry.label, tuple(details)))


def find_members(applier: Applier, budget: Budget, entry: Entry, emails: Iterable[str]) -> list[Membership]:
    found = {row.user.email: row for row in budget.project.memberships.select_related("user")}
    for email in set(emails) - found.keys():
        applier.notes.append(f"{entry.label}: {email} is not a member, and gets no alerts.")
    return [found[email] for email in emails if email in found]


def find_webhooks(applier: Applier, budget: Budget, entry: Entry, names: Iterable[str]) -> list[Webhook]:
    found = {row.name: row for row in Webhook.objects.for_project(budget.project)}
    for name in sorted(set(names) - found.keys()):
        applier.add_problem(entry, "alert_webhooks", f"the project does not have a webhook {name}.")
    return [found[name] for name in names if name in found]

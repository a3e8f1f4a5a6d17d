"""The section `members`: the roles of people in a project, by e-mail address."""

from typing import Any

import yaml

from gateway_project.project_config.applier import Applier, export_row
from gateway_project.project_config.fields import Field, parse_text
from projects.models import Membership, Project, Role, User
from projects.yaml_tree import Entry, line_of

ROLES = {role.name.lower(): role.value for role in Role}


def parse_role(value: Any) -> int:
    if (role := ROLES.get(parse_text(value).lower())) is None:
        raise ValueError(f"it must be one of {', '.join(ROLES)}.")
    return role


def render_role(role: int | None) -> str:
    return "" if role is None else Role(role).name.lower()


ROLE = Field("role", "role", parse_role, render_role)


def export_members(project: Project) -> dict[str, Any]:
    rows = project.memberships.select_related("user").order_by("user__email")
    return {row.user.email: export_row(row, [ROLE])["role"] for row in rows}


def apply_members(applier: Applier, project: Project, node: yaml.Node) -> None:
    """Set the roles of people who have an account. People whom the document does not mention stay members."""
    label = f"{project.slug}: members"
    entries = applier.reader.mapping(node, label)
    had_owner = project.memberships.filter(role=Role.OWNER).exists()
    for email, value in entries.items():
        user = User.objects.filter(email=email.lower()).first()
        if user is None:
            applier.notes.append(f"{label}: {email} has no account yet, and was not added.")
            continue
        entry = Entry(f"{project.slug}: member {email}", line_of(value), {ROLE.name: value})
        row = project.memberships.filter(user=user).first() or Membership(project=project, user=user)
        applier.save(row, entry, [ROLE])
    if had_owner and not project.memberships.filter(role=Role.OWNER).exists():
        applier.reader.add_problem(line_of(node), f"{label}: the project would have no owner.")

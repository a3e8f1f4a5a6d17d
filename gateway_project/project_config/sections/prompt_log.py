"""The section `prompt_log`: what the prompt log of a project stores."""

from typing import Any

import yaml

from gateway_project.project_config.applier import Applier, export_row
from gateway_project.project_config.fields import number, text, texts
from projects.models import Project
from proxy.models import PromptLogSettings

FIELDS = (text("mode"), number("retention_days"), texts("rules"), texts("patterns"))
NAMES = tuple(field.name for field in FIELDS)


def export_prompt_log(project: Project) -> dict[str, Any]:
    """Return the settings of a project; empty if it has the defaults."""
    row = PromptLogSettings.objects.filter(project=project).first()
    return export_row(row, FIELDS) if row else {}


def apply_prompt_log(applier: Applier, project: Project, node: yaml.Node) -> None:
    entry = applier.reader.entry(node, f"{project.slug}: prompt_log", NAMES)
    row = PromptLogSettings.objects.filter(project=project).first() or PromptLogSettings(project=project)
    if entry.nodes:
        applier.save(row, entry, FIELDS)

"""Prompt log policies: what the log of a project stores, cached in gateway processes."""

from dataclasses import dataclass

from django.conf import settings
from django.db import Error as DatabaseError

from projects.config_cache import ConfigCache
from proxy.models import PromptLogMode, PromptLogSettings
from proxy.prompt_log.redaction import Redactor, build_redactor


@dataclass(frozen=True, slots=True)
class PromptLogPolicy:
    """The mode of one project's log, and its redactor."""

    mode: PromptLogMode
    redactor: Redactor

    @property
    def is_full(self) -> bool:
        return self.mode is PromptLogMode.FULL


def load_policy(project_id: int) -> PromptLogPolicy:
    """Load a policy from the database. A project without settings has the defaults."""
    row = PromptLogSettings.objects.filter(project=project_id).first() or PromptLogSettings()
    return PromptLogPolicy(PromptLogMode(row.mode), build_redactor(frozenset(row.rules), tuple(row.patterns)))


prompt_log_policies: ConfigCache[int, PromptLogPolicy] = ConfigCache(load_policy)


async def policy_for(project_id: int) -> PromptLogPolicy | None:
    """Return the policy of a project; None if nothing is logged, or if the database does not respond."""
    if not settings.ENV.ai_gateway_prompt_logging:
        return None
    try:
        policy = await prompt_log_policies.get(project_id)
    except DatabaseError:
        return None
    return None if policy.mode is PromptLogMode.OFF else policy

"""The budgets and limits of a key, as gateway processes remember them."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q

from billing.ledger.terms import BudgetTerms, LimitTerms
from billing.models import Budget
from keys.models import ApiKey
from projects.configcache import ConfigCache
from projects.models import Limits


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """What applies to every request of a key: its own budgets and limits, and those of its project."""

    budgets: tuple[BudgetTerms, ...]
    limits: tuple[LimitTerms, ...]
    has_hard_budget: bool


class KeyGone(LookupError):
    """The key was deleted."""


def load(key_id: int) -> KeyTerms:
    key = ApiKey.objects.select_related("project").filter(pk=key_id).first()
    if key is None:
        raise KeyGone
    rows = Budget.objects.filter(Q(key=key) | Q(key=None, project=key.project)).order_by("pk")
    budgets = tuple(BudgetTerms(row.pk, row.period, row.limit_nano, row.key_id is None, row.mode) for row in rows)
    owners = (limits_of(f"k{key.pk}", key, settings.ENV.ai_gateway_rate_limit_rpm), limits_of(f"p{key.project_id}", key.project))
    return KeyTerms(budgets, tuple(terms for terms in owners if terms), any(budget.is_hard for budget in budgets))


def limits_of(owner: str, row: Limits, default_rpm: int | None = None) -> LimitTerms | None:
    terms = LimitTerms(owner, row.rpm_limit or default_rpm, row.tpm_limit, row.concurrency_limit)
    return None if terms == LimitTerms(owner) else terms


terms_of_key: ConfigCache[int, KeyTerms] = ConfigCache(load)

"""Spend policies: the budgets and rate limits that apply to a key, cached in gateway processes."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q

from billing.ledger.interface import BudgetLimit, RateLimit
from billing.models import Budget
from keys.models import ApiKey
from projects.config_cache import ConfigCache
from projects.models import RateLimits


@dataclass(frozen=True, slots=True)
class SpendPolicy:
    """The budgets and rate limits of a key and of its project."""

    budgets: tuple[BudgetLimit, ...]
    rate_limits: tuple[RateLimit, ...]
    has_hard_budget: bool


class KeyDeleted(LookupError):
    """The key was deleted."""


def load_spend_policy(key_id: int) -> SpendPolicy:
    """Load the spend policy of a key from the database. Raises KeyDeleted."""
    key = ApiKey.objects.select_related("project").filter(pk=key_id).first()
    if key is None:
        raise KeyDeleted
    rows = Budget.objects.filter(Q(key=key) | Q(key=None, project=key.project)).order_by("pk")
    budgets = tuple(
        BudgetLimit(row.pk, row.period, row.limit_nano, row.key_id is None, row.mode) for row in rows
    )
    limits = (
        rate_limit_for(f"k{key.pk}", key, settings.ENV.ai_gateway_rate_limit_rpm),
        rate_limit_for(f"p{key.project_id}", key.project),
    )
    rate_limits = tuple(limit for limit in limits if limit)
    return SpendPolicy(budgets, rate_limits, any(budget.is_hard for budget in budgets))


def rate_limit_for(owner: str, row: RateLimits, default_rpm: int | None = None) -> RateLimit | None:
    """Return the rate limit of a key or project, or None if it has none."""
    rate_limit = RateLimit(owner, row.rpm_limit or default_rpm, row.tpm_limit, row.concurrency_limit)
    return None if rate_limit == RateLimit(owner) else rate_limit


spend_policies: ConfigCache[int, SpendPolicy] = ConfigCache(load_spend_policy)

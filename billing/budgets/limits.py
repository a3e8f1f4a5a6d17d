"""Spend policies: the budgets and rate limits that apply to a key, cached in gateway processes."""

from dataclasses import dataclass

from django.conf import settings
from django.db.models import Q

from billing.ledger.interface import BudgetLimit, RateLimit
from billing.models import Budget
from keys.models import ApiKey
from projects.config_cache import ConfigCache
from projects.models import ANONYMOUS_SLUG, RateLimits


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
        rate_limit_for(f"k{key.pk}", key, default_rpm(key)),
        rate_limit_for(f"p{key.project_id}", key.project),
    )
    rate_limits = tuple(limit for limit in limits if limit)
    return SpendPolicy(budgets, rate_limits, any(budget.is_hard for budget in budgets))


def default_rpm(key: ApiKey) -> int | None:
    """Return the limit of a key that has none of its own.

    The callers without a key share one key, so their default limit applies to each client network instead.
    """
    if key.project.slug == ANONYMOUS_SLUG:
        return None
    return settings.ENV.ai_gateway_rate_limit_rpm or None


def anonymous_rate_limits(client_network: str) -> tuple[RateLimit, ...]:
    """Return the rate limit of the callers without a key from a client network."""
    rpm = settings.ENV.ai_gateway_rate_limit_rpm
    return (RateLimit(f"a{client_network}", rpm),) if rpm else ()


def rate_limit_for(owner: str, row: RateLimits, default_rpm: int | None = None) -> RateLimit | None:
    """Return the rate limit of a key or project, or None if it has none."""
    rate_limit = RateLimit(owner, row.rpm_limit or default_rpm, row.tpm_limit, row.concurrency_limit)
    return None if rate_limit == RateLimit(owner) else rate_limit


spend_policies: ConfigCache[int, SpendPolicy] = ConfigCache(load_spend_policy)

"""Budgets as gateway processes remember them."""

from django.db.models import Q

from billing.ledger.terms import BudgetTerms
from billing.models import Budget
from keys.models import ApiKey
from projects.configcache import ConfigCache


def load(key_id: int) -> tuple[BudgetTerms, ...]:
    key = ApiKey.objects.only("project_id").get(pk=key_id)
    budgets = Budget.objects.filter(Q(key=key_id) | Q(key=None, project=key.project_id)).order_by("pk")
    return tuple(BudgetTerms(budget.pk, budget.period, budget.limit_nano, budget.key_id is None) for budget in budgets)


budgets_of_key: ConfigCache[int, tuple[BudgetTerms, ...]] = ConfigCache(load)

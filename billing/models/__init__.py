"""Budgets, what is spent against them, and who is told; prices; the record of every request; the sums over records."""

from billing.models.alerts import REFUSAL, Alert, Delivery, State
from billing.models.budgets import Budget, BudgetQuerySet, BudgetWindow, Mode, Period, Reservation
from billing.models.outbox import Outbox, OwedRecord
from billing.models.prices import PriceOverride
from billing.models.usage import Correction, DailyUsage, DirtyDay, Outcome, Totals, UsageRecord
from billing.models.webhooks import Webhook

__all__ = [
    "REFUSAL",
    "Alert",
    "Budget",
    "BudgetQuerySet",
    "BudgetWindow",
    "Correction",
    "DailyUsage",
    "Delivery",
    "DirtyDay",
    "Mode",
    "Outbox",
    "Outcome",
    "OwedRecord",
    "Period",
    "PriceOverride",
    "Reservation",
    "State",
    "Totals",
    "UsageRecord",
    "Webhook",
]

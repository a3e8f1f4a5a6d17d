"""Models of billing: budgets, alerts and webhooks, prices, usage records and their daily sums."""

from billing.models.alerts import DENIAL_THRESHOLD, AdminAlert, AdminEvent, Alert, Delivery, DeliveryStatus
from billing.models.budgets import Budget, BudgetQuerySet, BudgetWindow, Mode, Period, Reservation
from billing.models.prices import PriceOverride
from billing.models.record_stream import StreamCursor, UnsentRecord
from billing.models.usage import (
    ArchivedUsage,
    CorrectionReason,
    DailyUsage,
    Outcome,
    StaleDay,
    UsageRecord,
)
from billing.models.webhooks import Webhook

__all__ = [
    "DENIAL_THRESHOLD",
    "AdminAlert",
    "AdminEvent",
    "Alert",
    "ArchivedUsage",
    "Budget",
    "BudgetQuerySet",
    "BudgetWindow",
    "CorrectionReason",
    "DailyUsage",
    "Delivery",
    "DeliveryStatus",
    "Mode",
    "Outcome",
    "Period",
    "PriceOverride",
    "Reservation",
    "StaleDay",
    "StreamCursor",
    "UnsentRecord",
    "UsageRecord",
    "Webhook",
]

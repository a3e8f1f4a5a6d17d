"""What the database says of a project's requests, for the audit."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Coalesce, Greatest
from django.utils import timezone

from billing.ledger.audit import PROPAGATION, SUMMED, Group, Records, Spend, State, Sums
from billing.ledger.steps import TOKEN_COLUMNS
from billing.ledger.terms import MOST_NANO
from billing.ledger.windows import days_of
from billing.models import Budget, Correction, DailyUsage, DirtyDay, UsageRecord
from billing.models.usage import SUMS
from billing.prices import Price, Tokens
from projects.ids import first_id

CHARGED_LATELY = timedelta(days=2)
"""Each cost is held against its tokens for this long. Later, the roll-ups tell when a record was changed; and a cost is not held against
the rules by which another version of the gateway charges."""
GROUP = ("day", "key_id", "model_asked", "provider")


def records_of(state: State) -> Records:
    """What the database says, beside the windows and reservations that were found."""
    records = UsageRecord.objects.filter(project=state.project_id)
    corrections = records.exclude(corrects=None)
    late = corrections.filter(correction=Correction.LATE).values_list("corrects").annotate(count=Count("id")).order_by()
    missing = corrections.filter(~Exists(UsageRecord.objects.filter(pk=OuterRef("corrects"))))
    dirty = list(DirtyDay.objects.filter(project=state.project_id).values_list("day", flat=True))
    rows = DailyUsage.objects.filter(project=state.project_id).exclude(day__in=dirty)
    return Records(
        spends=spends(records),
        early=spent_early(state, records),
        ended=existing([each.id for each in state.held]),
        late=dict(late.filter(count__gt=1)),
        missing=[id for id in missing.values_list("corrects", flat=True).distinct().order_by() if id],
        charged=list(charged_wrongly(records)),
        sums=by_group(records.exclude(day__in=dirty), SUMS),
        rows=by_group(rows, {name: Sum(name) for name in SUMMED}),
    )


def budgets_of(project_id: int) -> dict[int, Budget]:
    return {budget.pk: budget for budget in Budget.objects.filter(project=project_id).select_related("project")}


def existing(ids: list[UUID]) -> set[UUID]:
    return set(UsageRecord.objects.filter(pk__in=ids).values_list("pk", flat=True))


def spends(records: QuerySet[UsageRecord]) -> list[Spend]:
    over = Greatest(F("cost_nano") - Coalesce("held_nano", 0), 0)
    rows = records.values_list("key_id", "day").annotate(cost=Sum("cost_nano"), over=Sum(over)).order_by()
    return [Spend(*row) for row in rows]


def spent_early(state: State, records: QuerySet[UsageRecord]) -> dict[tuple[int, str], int]:
    """What records from before the last change of its budget have spent, of each window that is beyond its limit."""
    found = {}
    for window in state.windows:
        budget = state.budgets[window.budget_id]
        if window.spent + window.reserved > budget.limit_nano:
            early = records.filter(day__range=days_of(window.name), created_at__lt=budget.changed_at + PROPAGATION)
            early = early if budget.key_id is None else early.filter(key=budget.key_id)
            found[window.id] = early.aggregate(total=Sum("cost_nano", default=0))["total"]
    return found


def charged_wrongly(records: QuerySet[UsageRecord]) -> Iterator[tuple[UUID, int, int]]:
    """Records whose cost is not that of their tokens at the price that they keep. An estimate may be what was held, and a correction is
    the difference of two; a request that was not charged has no tokens and no cost."""
    charged = records.filter(pk__gte=first_id(timezone.now() - CHARGED_LATELY), estimated=False, corrects=None, price__isnull=False)
    columns = ("pk", "cost_nano", "tool_calls", *TOKEN_COLUMNS)
    for price, id, cost, tool_calls, *counts in charged.values_list(Cast("price", TextField()), *columns).iterator():
        tokens = Tokens(*counts)
        if cost or tokens != Tokens():
            expected = min(price_of(price).cost(tokens, tool_calls), MOST_NANO)
            if cost != expected:
                yield id, expected, cost


@lru_cache(maxsize=256)
def price_of(text: str) -> Price:
    """Few prices serve many records."""
    return msgspec.json.decode(text, type=Price)


def by_group(rows: QuerySet[Any], sums: dict[str, Any]) -> dict[Group, Sums]:
    """In the order of SUMMED. Rows of keys that were deleted since are of one group."""
    found = rows.values_list(*GROUP).annotate(**sums).order_by()
    return {row[: len(GROUP)]: tuple(map(int, row[len(GROUP) :])) for row in found}


@contextmanager
def one_moment() -> Iterator[None]:
    """All queries inside see the same rows. Nobody waits for them: Django's own transactions would keep SQLite's write lock for as long."""
    if connection.vendor == "sqlite" and not connection.in_atomic_block:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield
            finally:
                cursor.execute("ROLLBACK")
        return
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield

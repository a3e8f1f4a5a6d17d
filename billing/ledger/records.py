"""What the database says of a project's requests, for the audit."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models import Case, Count, Exists, F, Max, OuterRef, QuerySet, Sum, TextField, When
from django.db.models.functions import Cast, Coalesce, Greatest
from django.utils import timezone

from billing.ledger.audit import PROPAGATION, SUMMED, Group, Held, Records, Spend, State, Sums, Window, covers
from billing.ledger.entry import Entry
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
ARRIVED = timedelta(hours=1)
"""A request that was admitted while Redis was away counts in its windows within this time from its beginning: it may run for minutes, and
its record may wait in a process that reaches neither store."""
EVER = datetime.min.replace(tzinfo=UTC)
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
        unchecked=taken_unchecked(state, records),
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
    over = Case(When(unchecked=True, then=0), default=Greatest(F("cost_nano") - Coalesce("held_nano", 0), 0))
    rows = records.values_list("key_id", "day").annotate(cost=Sum("cost_nano"), over=Sum(over)).order_by()
    return [Spend(*row) for row in rows]


def spent_early(state: State, records: QuerySet[UsageRecord]) -> dict[tuple[int, str], int]:
    """What records from before the last change of its budget have spent, of each window that is beyond its limit."""
    found = {}
    for window in beyond_limits(state):
        changed_at = state.budgets[window.budget_id].changed_at
        early = covered(records, state, window).filter(created_at__lt=changed_at + PROPAGATION)
        found[window.id] = early.aggregate(total=Sum("cost_nano", default=0))["total"]
    return found


def taken_unchecked(state: State, records: QuerySet[UsageRecord]) -> dict[tuple[int, str], int]:
    """Return what requests that were admitted while Redis was away have spent or hold, of each window that is beyond its limit."""
    found = {}
    for window in beyond_limits(state):
        counted, budget = covered(records, state, window), state.budgets[window.budget_id]
        events = [event for event in state.events if covers(budget, window.name, event)]
        held = [each for each in state.held if window.id in each.windows]
        since = counts_since(counted, events, held)
        spent = counted.filter(unchecked=True, created_at__gte=since).aggregate(total=Sum("cost_nano", default=0))["total"]
        spent += sum(event.cost_nano for event in events if event.unchecked and event.created_at >= since)
        found[window.id] = spent + sum(each.amount for each in held if each.unchecked and each.created_at >= since)
    return found


def counts_since(counted: QuerySet[UsageRecord], events: list[Entry], held: list[Held]) -> datetime:
    """Return since when a request that was admitted while Redis was away may have taken a window beyond its limit. What came long before
    the last request that was checked may not: that one was admitted beside it, within the limit."""
    checked = [event.created_at for event in events if event.held_nano is not None and not event.unchecked]
    checked += [each.created_at for each in held if not each.unchecked]
    if last := counted.filter(unchecked=False, held_nano__isnull=False).aggregate(last=Max("created_at"))["last"]:
        checked.append(last)
    return max(checked) - ARRIVED if checked else EVER


def beyond_limits(state: State) -> Iterator[Window]:
    return (window for window in state.windows if window.taken > state.budgets[window.budget_id].limit_nano)


def covered(records: QuerySet[UsageRecord], state: State, window: Window) -> QuerySet[UsageRecord]:
    """Return those that count in a window."""
    inside, key_id = records.filter(day__range=days_of(window.name)), state.budgets[window.budget_id].key_id
    return inside if key_id is None else inside.filter(key=key_id)


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

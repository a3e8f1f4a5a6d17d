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

from billing.budgets.windows import window_days
from billing.ledger.audit.checks import (
    CHANGE_PROPAGATION,
    ROLLUP_COLUMNS,
    LedgerSnapshot,
    RecordsSnapshot,
    ReservationSnapshot,
    RollupKey,
    RollupSums,
    SpendRow,
    WindowSnapshot,
    window_covers,
)
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.ledger.sql.transactions import TOKEN_COLUMNS
from billing.ledger.usage_entry import UsageEntry
from billing.models import Budget, CorrectionReason, DailyUsage, StaleDay, UsageRecord
from billing.pricing import Price, Tokens
from billing.usage.reports import ROLLUP_SUMS
from projects.ids import uuid7_floor

COST_CHECK_WINDOW = timedelta(days=2)
"""Each cost is held against its tokens for this long. Later, the roll-ups tell when a record was changed; and a cost is not held against
the rules by which another version of the gateway charges."""
ARRIVED = timedelta(hours=1)
"""A request that was admitted while Redis was away counts in its windows within this time from its beginning: it may run for minutes, and
its record may wait in a process that reaches neither store."""
EVER = datetime.min.replace(tzinfo=UTC)
ROLLUP_KEY_COLUMNS = ("day", "key_id", "requested_model", "provider")


def load_records(snapshot: LedgerSnapshot) -> RecordsSnapshot:
    """What the database says, beside the windows and reservations that were found."""
    records = UsageRecord.objects.filter(project=snapshot.project_id)
    corrections = records.exclude(corrects=None)
    late_corrections = (
        corrections.filter(correction_reason=CorrectionReason.LATE)
        .values_list("corrects")
        .annotate(count=Count("id"))
        .order_by()
    )
    orphans = corrections.filter(~Exists(UsageRecord.objects.filter(pk=OuterRef("corrects"))))
    stale_days = list(StaleDay.objects.filter(project=snapshot.project_id).values_list("day", flat=True))
    rows = DailyUsage.objects.filter(project=snapshot.project_id).exclude(day__in=stale_days)
    return RecordsSnapshot(
        spend_rows=spend_by_key_and_day(records),
        spent_before_change=spent_before_change(snapshot, records),
        unchecked=taken_unchecked(snapshot, records),
        settled_ids=existing_ids([each.id for each in snapshot.reservations]),
        duplicate_corrections=dict(late_corrections.filter(count__gt=1)),
        orphan_corrections=[
            id for id in orphans.values_list("corrects", flat=True).distinct().order_by() if id
        ],
        wrong_costs=list(wrong_costs(records)),
        record_sums=sums_by_rollup_key(records.exclude(day__in=stale_days), ROLLUP_SUMS),
        rollup_sums=sums_by_rollup_key(rows, {name: Sum(name) for name in ROLLUP_COLUMNS}),
    )


def load_budgets(project_id: int) -> dict[int, Budget]:
    return {
        budget.pk: budget for budget in Budget.objects.filter(project=project_id).select_related("project")
    }


def existing_ids(ids: list[UUID]) -> set[UUID]:
    return set(UsageRecord.objects.filter(pk__in=ids).values_list("pk", flat=True))


def spend_by_key_and_day(records: QuerySet[UsageRecord]) -> list[SpendRow]:
    overrun = Case(
        When(unchecked=True, then=0), default=Greatest(F("cost_nano") - Coalesce("reserved_nano", 0), 0)
    )
    rows = records.values_list("key_id", "day").annotate(cost=Sum("cost_nano"), over=Sum(overrun)).order_by()
    return [SpendRow(*row) for row in rows]


def spent_before_change(
    snapshot: LedgerSnapshot, records: QuerySet[UsageRecord]
) -> dict[tuple[int, str], int]:
    """What records from before the last change of its budget have spent, of each window that is beyond its limit."""
    found = {}
    for window in beyond_limits(snapshot):
        changed_at = snapshot.budgets[window.budget_id].changed_at
        earlier_records = covered(records, snapshot, window).filter(
            created_at__lt=changed_at + CHANGE_PROPAGATION
        )
        found[window.id] = earlier_records.aggregate(total=Sum("cost_nano", default=0))["total"]
    return found


def taken_unchecked(state: LedgerSnapshot, records: QuerySet[UsageRecord]) -> dict[tuple[int, str], int]:
    """Return what requests that were admitted while Redis was away have spent or hold, of each window that is beyond its limit."""
    found = {}
    for window in beyond_limits(state):
        counted, budget = covered(records, state, window), state.budgets[window.budget_id]
        events = [event for event in state.undrained_records if window_covers(budget, window.name, event)]
        held = [each for each in state.reservations if window.id in each.windows]
        since = counts_since(counted, events, held)
        spent = counted.filter(unchecked=True, created_at__gte=since).aggregate(
            total=Sum("cost_nano", default=0)
        )["total"]
        spent += sum(event.cost_nano for event in events if event.unchecked and event.created_at >= since)
        found[window.id] = spent + sum(
            each.amount for each in held if each.unchecked and each.created_at >= since
        )
    return found


def counts_since(
    counted: QuerySet[UsageRecord], events: list[UsageEntry], held: list[ReservationSnapshot]
) -> datetime:
    """Return since when a request that was admitted while Redis was away may have taken a window beyond its limit. What came long before
    the last request that was checked may not: that one was admitted beside it, within the limit.
    """
    checked = [
        event.created_at for event in events if event.reserved_nano is not None and not event.unchecked
    ]
    checked += [each.created_at for each in held if not each.unchecked]
    if last := counted.filter(unchecked=False, reserved_nano__isnull=False).aggregate(last=Max("created_at"))[
        "last"
    ]:
        checked.append(last)
    return max(checked) - ARRIVED if checked else EVER


def beyond_limits(state: LedgerSnapshot) -> Iterator[WindowSnapshot]:
    return (window for window in state.windows if window.taken > state.budgets[window.budget_id].limit_nano)


def covered(
    records: QuerySet[UsageRecord], state: LedgerSnapshot, window: WindowSnapshot
) -> QuerySet[UsageRecord]:
    """Return those that count in a window."""
    inside, key_id = (
        records.filter(day__range=window_days(window.name)),
        state.budgets[window.budget_id].key_id,
    )
    return inside if key_id is None else inside.filter(key=key_id)


def wrong_costs(records: QuerySet[UsageRecord]) -> Iterator[tuple[UUID, int, int]]:
    """Records whose cost is not that of their tokens at the price that they keep. An estimate may be what was held, and a correction is
    the difference of two; a request that was not charged has no tokens and no cost.
    """
    charged_records = records.filter(
        pk__gte=uuid7_floor(timezone.now() - COST_CHECK_WINDOW),
        estimated=False,
        corrects=None,
        price__isnull=False,
    )
    columns = ("pk", "cost_nano", "billable_extras", *TOKEN_COLUMNS)
    for price, id, cost, billable_extras, *counts in charged_records.values_list(
        Cast("price", TextField()), *columns
    ).iterator():
        tokens = Tokens(*counts)
        if cost or tokens != Tokens():
            expected = min(decode_price(price).cost(tokens, billable_extras), MAX_RESERVATION_NANO)
            if cost != expected:
                yield id, expected, cost


@lru_cache(maxsize=256)
def decode_price(text: str) -> Price:
    """Few prices serve many records."""
    return msgspec.json.decode(text, type=Price)


def sums_by_rollup_key(rows: QuerySet[Any], sums: dict[str, Any]) -> dict[RollupKey, RollupSums]:
    """In the order of SUMMED. Rows of keys that were deleted since are of one group."""
    found = rows.values_list(*ROLLUP_KEY_COLUMNS).annotate(**sums).order_by()
    return {row[: len(ROLLUP_KEY_COLUMNS)]: tuple(map(int, row[len(ROLLUP_KEY_COLUMNS) :])) for row in found}


@contextmanager
def consistent_read() -> Iterator[None]:
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

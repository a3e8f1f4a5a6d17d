"""Snapshots of the SQL ledger, and queries of usage records for the snapshots of both ledgers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from operator import add
from typing import Any, TypeVar
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.db.models import Count, Exists, Max, OuterRef, QuerySet, Sum, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from billing.budgets.windows import window_days
from billing.ledger.audit.checks import CHANGE_PROPAGATION, ROLLUP_COLUMNS, window_covers
from billing.ledger.audit.snapshot import (
    LedgerSnapshot,
    RecordsSnapshot,
    ReservationSnapshot,
    RollupKey,
    RollupSums,
    SpendRow,
    WindowSnapshot,
    read_or_report,
)
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.ledger.sql.transactions import TOKEN_COLUMNS, split_window_ids
from billing.ledger.usage_entry import UsageEntry, decode_entry
from billing.models import (
    ArchivedUsage,
    Budget,
    BudgetWindow,
    CorrectionReason,
    DailyUsage,
    Reservation,
    StaleDay,
    UsageRecord,
)
from billing.pricing import Price, Tokens
from billing.usage.reports import OVERRUN, ROLLUP_SUMS
from projects.ids import uuid7_floor
from projects.models import Project

COST_CHECK_WINDOW = timedelta(days=2)
"""Maximum age of records whose cost the audit compares with their tokens and price.

Older records are excluded because an older version of the gateway may have computed their cost by other
rules. If such a record is changed, the roll-ups do not match it.
"""
SETTLEMENT_DELAY = timedelta(hours=1)
"""Maximum time between the start of a request admitted while Redis is down and its count in windows.

The request may run for minutes, and its record may wait in a process that reaches neither Redis nor SQL.
"""
EVER = datetime.min.replace(tzinfo=UTC)
STORED_SUMS = {name: Sum(name) for name in ROLLUP_COLUMNS}
"""Aggregates over rows that are sums themselves."""
M = TypeVar("M", UsageRecord, ArchivedUsage)
ROLLUP_KEY_COLUMNS = ("day", "key_id", "requested_model", "provider")


def sql_snapshots(*, is_served: bool) -> Iterator[LedgerSnapshot]:
    """Yield a snapshot of the SQL ledger of each project.

    `is_served`: a gateway process uses this database. If it is false, open reservations are orphans, because
    no process will settle them.
    """
    reserving_projects = Reservation.objects.values_list("project_id")
    for (project_id,) in Project.objects.values_list("pk").union(reserving_projects):
        yield read_or_report(project_id, partial(load_sql_snapshot, project_id, is_served=is_served))


def load_sql_snapshot(project_id: int, *, is_served: bool) -> LedgerSnapshot:
    with consistent_read():
        snapshot = LedgerSnapshot(project_id, load_budgets(project_id))
        rows = BudgetWindow.objects.filter(budget__project=project_id)
        windows = {
            row.pk: WindowSnapshot(row.budget_id, row.name, row.spent_nano, row.reserved_nano) for row in rows
        }
        snapshot.windows = list(windows.values())
        reservations = Reservation.objects.filter(project=project_id)
        snapshot.reservations = [
            reservation_from_row(row, windows, is_orphaned=not is_served) for row in reservations
        ]
        snapshot.records = load_records(snapshot)
        return snapshot


def reservation_from_row(
    row: Reservation, windows: dict[int, WindowSnapshot], *, is_orphaned: bool
) -> ReservationSnapshot:
    estimate = decode_entry(row.estimate)
    names = frozenset(windows[id].id for id in split_window_ids(row.windows) if id in windows)
    return ReservationSnapshot(
        row.pk, estimate.key_id, estimate.day, estimate.created_at, row.amount_nano, names, is_orphaned
    )


def load_budgets(project_id: int) -> dict[int, Budget]:
    budgets = Budget.objects.filter(project=project_id).select_related("project")
    return {budget.pk: budget for budget in budgets}


def load_records(snapshot: LedgerSnapshot) -> RecordsSnapshot:
    """Read what the audit needs from the usage records. `snapshot` must have windows and reservations.

    The sums of deleted records are added. The deletion moves them in a transaction, which the audit sees
    either completely or not at all.
    """
    archived = ArchivedUsage.objects.filter(project=snapshot.project_id)
    records = UsageRecord.objects.filter(project=snapshot.project_id)
    corrections = records.exclude(corrects=None)
    late_corrections = (
        corrections.filter(correction_reason=CorrectionReason.LATE)
        .values_list("corrects")
        .annotate(count=Count("id"))
        .order_by()
    )
    # On a day with archived usage, the corrected record may have been deleted before its correction arrived.
    orphans = corrections.filter(
        ~Exists(UsageRecord.objects.filter(pk=OuterRef("corrects"))),
        ~Exists(archived.filter(day=OuterRef("day"))),
    )
    stale_days = list(StaleDay.objects.filter(project=snapshot.project_id).values_list("day", flat=True))
    rows = DailyUsage.objects.filter(project=snapshot.project_id).exclude(day__in=stale_days)
    return RecordsSnapshot(
        spend_rows=spend_by_key_and_day(records, archived),
        spent_before_change=spent_before_change(snapshot, records, archived),
        unchecked=used_unchecked(snapshot, records, archived),
        settled_ids=existing_ids([each.id for each in snapshot.reservations]),
        duplicate_corrections=dict(late_corrections.filter(count__gt=1)),
        orphan_corrections=[
            id for id in orphans.values_list("corrects", flat=True).distinct().order_by() if id
        ],
        wrong_costs=list(wrong_costs(records)),
        record_sums=add_sums(
            sums_by_rollup_key(records.exclude(day__in=stale_days), ROLLUP_SUMS),
            sums_by_rollup_key(archived.exclude(day__in=stale_days), STORED_SUMS),
        ),
        rollup_sums=sums_by_rollup_key(rows, STORED_SUMS),
    )


def existing_ids(ids: list[UUID]) -> set[UUID]:
    return set(UsageRecord.objects.filter(pk__in=ids).values_list("pk", flat=True))


def spend_by_key_and_day(records: QuerySet[UsageRecord], archived: QuerySet[ArchivedUsage]) -> list[SpendRow]:
    cost = Sum("cost_nano")
    found = [
        *records.values_list("key_id", "day").annotate(cost=cost, overrun=Sum(OVERRUN)).order_by(),
        *archived.values_list("key_id", "day").annotate(cost=cost, overrun=Sum("overrun_nano")).order_by(),
    ]
    return [SpendRow(*row) for row in found]


def spent_before_change(
    snapshot: LedgerSnapshot, records: QuerySet[UsageRecord], archived: QuerySet[ArchivedUsage]
) -> dict[tuple[int, str], int]:
    """Return the cost of records before the budget's last change, for windows that exceed their limit.

    Archived usage has days but no times, so all archived usage on the day of the change counts as earlier.
    """
    found = {}
    for window in windows_beyond_limit(snapshot):
        budget = snapshot.budgets[window.budget_id]
        changed_at = budget.changed_at + CHANGE_PROPAGATION
        earlier = rows_in_window(records, snapshot, window).filter(created_at__lt=changed_at)
        changed_on = changed_at.astimezone(budget.project.tzinfo).date()
        archived_earlier = rows_in_window(archived, snapshot, window).filter(day__lte=changed_on)
        found[window.id] = total(earlier, "cost_nano") + total(archived_earlier, "cost_nano")
    return found


def used_unchecked(
    snapshot: LedgerSnapshot, records: QuerySet[UsageRecord], archived: QuerySet[ArchivedUsage]
) -> dict[tuple[int, str], int]:
    """Return the amounts that unchecked requests have used, for windows that exceed their limit.

    Unchecked requests were admitted while Redis was down. Spent and reserved amounts are included, except
    those of requests that cannot be the cause (`unchecked_since`).
    """
    found = {}
    for window in windows_beyond_limit(snapshot):
        in_window, budget = rows_in_window(records, snapshot, window), snapshot.budgets[window.budget_id]
        entries = [entry for entry in snapshot.undrained_records if window_covers(budget, window.name, entry)]
        reservations = [each for each in snapshot.reservations if window.id in each.windows]
        since = unchecked_since(in_window, entries, reservations)
        spent = total(in_window.filter(unchecked=True, created_at__gte=since), "cost_nano")
        archived_since = rows_in_window(archived, snapshot, window).filter(day__gte=since.date())
        spent += total(archived_since, "unchecked_nano")
        undrained = sum(entry.cost_nano for entry in entries if entry.unchecked and entry.created_at >= since)
        reserved = sum(each.amount for each in reservations if each.unchecked and each.created_at >= since)
        found[window.id] = spent + undrained + reserved
    return found


def unchecked_since(
    in_window: QuerySet[UsageRecord], entries: list[UsageEntry], reservations: list[ReservationSnapshot]
) -> datetime:
    """Return the earliest start of an unchecked request that can have taken a window beyond its limit.

    If an unchecked request started more than SETTLEMENT_DELAY before the last checked request, it cannot be
    the cause: its cost was already counted when the checked request was admitted within the limit.
    """
    checked = [
        entry.created_at for entry in entries if entry.reserved_nano is not None and not entry.unchecked
    ]
    checked += [each.created_at for each in reservations if not each.unchecked]
    records = in_window.filter(unchecked=False, reserved_nano__isnull=False)
    if last := records.aggregate(last=Max("created_at"))["last"]:
        checked.append(last)
    return max(checked) - SETTLEMENT_DELAY if checked else EVER


def windows_beyond_limit(snapshot: LedgerSnapshot) -> Iterator[WindowSnapshot]:
    for window in snapshot.windows:
        if window.used > snapshot.budgets[window.budget_id].limit_nano:
            yield window


def rows_in_window(rows: QuerySet[M], snapshot: LedgerSnapshot, window: WindowSnapshot) -> QuerySet[M]:
    on_days = rows.filter(day__range=window_days(window.name))
    key_id = snapshot.budgets[window.budget_id].key_id
    return on_days if key_id is None else on_days.filter(key=key_id)


def total(rows: QuerySet[Any], column: str) -> int:
    found: int = rows.aggregate(total=Sum(column, default=0))["total"]
    return found


def wrong_costs(records: QuerySet[UsageRecord]) -> Iterator[tuple[UUID, int, int]]:
    """Yield id, expected cost and stored cost of records whose cost does not match their tokens and price.

    Estimates are excluded because they may charge the whole reservation, and corrections because they are
    differences of two costs. Requests that were not charged have neither tokens nor a cost. The cost of
    several attempts is the sum of their costs, because their targets may have different prices.
    """
    recent = records.filter(pk__gte=uuid7_floor(timezone.now() - COST_CHECK_WINDOW), corrects=None)
    with_attempts = recent.filter(attempts__isnull=False)
    for id, cost, attempts in with_attempts.values_list("pk", "cost_nano", "attempts").iterator():
        expected = min(sum(attempt["cost_nano"] for attempt in attempts or ()), MAX_RESERVATION_NANO)
        if cost != expected:
            yield id, expected, cost
    charged_records = recent.filter(estimated=False, price__isnull=False, attempts__isnull=True)
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
    """Decode a price. The result is cached, because many records have the same price."""
    return msgspec.json.decode(text, type=Price)


def sums_by_rollup_key(rows: QuerySet[Any], sums: dict[str, Any]) -> dict[RollupKey, RollupSums]:
    """Return sums by roll-up key, in the order of ROLLUP_COLUMNS. Records of all deleted keys are one row."""
    found = rows.values_list(*ROLLUP_KEY_COLUMNS).annotate(**sums).order_by()
    return {row[: len(ROLLUP_KEY_COLUMNS)]: tuple(map(int, row[len(ROLLUP_KEY_COLUMNS) :])) for row in found}


def add_sums(
    first: dict[RollupKey, RollupSums], second: dict[RollupKey, RollupSums]
) -> dict[RollupKey, RollupSums]:
    """Add two mappings of roll-up keys to sums."""
    added = dict(first)
    for key, sums in second.items():
        added[key] = tuple(map(add, added[key], sums)) if key in added else sums
    return added


@contextmanager
def consistent_read() -> Iterator[None]:
    """Let all queries in the block see the same rows, without blocking writers.

    On SQLite, the function begins a deferred transaction itself, because Django's transactions acquire the
    write lock when they begin.
    """
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

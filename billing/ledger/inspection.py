"""What the ledger's store and the database say, project by project and as of one moment each, for the audit."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

import msgspec
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, F, OuterRef, QuerySet, Sum, TextField
from django.db.models.functions import Cast, Coalesce, Greatest
from django.utils import timezone

from billing.audit import PROPAGATION, SUMMED, Difference, Group, Held, Records, Spend, State, Sums, Window, differences
from billing.ledger.redis import reader
from billing.ledger.redis.opening import KEPT_AFTER_END
from billing.ledger.session import LOCK_SPACE, lock_beside
from billing.ledger.steps import TOKEN_COLUMNS, decode_draft, split
from billing.ledger.terms import MOST_NANO
from billing.ledger.windows import days_of, window_name
from billing.models import Budget, BudgetWindow, Correction, DailyUsage, DirtyDay, Outbox, Reservation, UsageRecord
from billing.models.usage import SUMS
from billing.prices import Price, Tokens
from projects.ids import first_id
from projects.models import Project

ATTEMPTS = 20
PAUSE_S = 1.0
"""Two stores are not read at one moment, nor is a gateway seen to start: what is wrong is still wrong after this time."""
RESOLVED_S = 15.0
"""A process without a sign of life has been dead for 30 s; what it held is resolved within 45 s of its death."""
CHARGED_LATELY = timedelta(days=2)
"""Each cost is held against its tokens for this long. Later, the roll-ups tell when a record was changed; and a cost is not held against
the rules by which another version of the gateway charges."""
GROUP = ("day", "key_id", "model_asked", "provider")

log = structlog.get_logger()


class Unsettled(Exception):
    """The books moved on at every look."""


@dataclass
class Audit:
    """How much was looked at, and what was found."""

    windows: int = 0
    held: int = 0
    found: list[Difference] = field(default_factory=list)


def audit_books() -> Audit:
    """What a second look still finds, where the first finds anything."""
    audit = look()
    if audit.found:
        seen = {(each.rule, each.subject) for each in audit.found}
        time.sleep(RESOLVED_S if settings.ENV.redis_url and any(rule == "I4" for rule, _ in seen) else PAUSE_S)
        audit = look()
        audit.found = [each for each in audit.found if (each.rule, each.subject) in seen]
    return audit


def look() -> Audit:
    audit = Audit()
    for state in current_state():
        audit.windows += len(state.windows)
        audit.held += len(state.held)
        audit.found += differences([state])
    return audit


def current_state() -> Iterator[State]:
    """Of the ledger that the environment names."""
    if settings.ENV.redis_url:
        return redis_state()
    return sql_state(served=postgresql_is_served() if settings.ENV.database_url else sqlite_is_served())


def sql_state(*, served: bool) -> Iterator[State]:
    """Project by project. `served`: a gateway process uses this database, whose requests are under way; otherwise nobody will end them."""
    held_for = Reservation.objects.values_list("project_id")
    for (project_id,) in Project.objects.values_list("pk").union(held_for):
        yield isolated(project_id, partial(sql_books, project_id, served=served))


def redis_state() -> Iterator[State]:
    """The same, of all projects that Redis or the database knows."""
    for project_id in sorted({*reader.projects(), *Outbox.objects.values_list("project_id", flat=True)}):
        yield isolated(project_id, partial(redis_books, project_id))


def isolated(project_id: int, read: Callable[[], State]) -> State:
    """Books that cannot be read are a difference of their own, and do not keep the others from being read."""
    try:
        return read()
    except Exception as error:
        log.error("the books of a project cannot be read", project_id=project_id, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        return State(project_id, faults=[Difference("unread", f"project {project_id}", "books that can be read", reason)])


def sql_books(project_id: int, *, served: bool) -> State:
    with one_moment():
        state = State(project_id, budgets_of(project_id))
        rows = BudgetWindow.objects.filter(budget__project=project_id)
        windows = {row.pk: Window(row.budget_id, row.name, row.spent_nano, row.reserved_nano) for row in rows}
        state.windows = list(windows.values())
        reservations = Reservation.objects.filter(project=project_id)
        state.held = [held_in_sql(row, windows, orphaned=not served) for row in reservations]
        state.records = records_of(state)
        return state


def held_in_sql(row: Reservation, windows: dict[int, Window], *, orphaned: bool) -> Held:
    draft = decode_draft(row.draft)
    names = frozenset(windows[id].id for id in split(row.windows) if id in windows)
    return Held(row.pk, draft.key_id, draft.day, draft.created_at, row.amount_nano, names, orphaned)


def redis_books(project_id: int) -> State:
    """The records up to an event of the outbox, and what Redis says with the events after that one. Raises Unsettled where events left
    the outbox, while it was read, at every attempt: nothing else is asked between the two."""
    names = recent_windows(budgets_of(project_id))
    for _ in range(ATTEMPTS):
        with one_moment():
            drained = Outbox.objects.filter(project=project_id).first()
            through = f"{drained.drained_ms}-{drained.drained_seq}" if drained else "0-0"
            snapshot = reader.snapshot(project_id, through, names)
            if snapshot is not None:
                return state_of(project_id, snapshot)
    raise Unsettled(f"project {project_id}")


def state_of(project_id: int, snapshot: reader.Snapshot) -> State:
    """An event may be in the database before it is noted there how far its outbox was taken."""
    kept = existing([entry.id for entry in snapshot.events])
    state = State(project_id, budgets_of(project_id), events=[entry for entry in snapshot.events if entry.id not in kept])
    state.windows = [Window(*each) for each in snapshot.windows if each[0] in state.budgets]
    state.held = [held_in_redis(each) for each in snapshot.held]
    state.faults = list(faults(project_id, snapshot))
    state.records = records_of(state)
    state.records.ended |= {entry.id for entry in snapshot.events}
    return state


def held_in_redis(each: reader.Held) -> Held:
    draft = decode_draft(each.draft)
    orphaned = not each.process_lives
    return Held(each.id, each.key_id, each.day, draft.created_at, each.amount, frozenset(each.windows), orphaned)


def faults(project_id: int, snapshot: reader.Snapshot) -> Iterator[Difference]:
    for window, amounts in snapshot.illegible:
        yield Difference("I5", f"budget {window.replace('/', ', window ')}: spent and reserved", "whole numbers", amounts)
    for window in snapshot.unlisted:
        yield Difference("I5", f"budget {window.replace('/', ', window ')}: in the list of open windows", 1, 0)
    if not snapshot.is_drained:
        yield Difference("I4", f"project {project_id}: among those whose records are taken to the database", 1, 0)


def recent_windows(budgets: dict[int, Budget]) -> list[str]:
    """Those that Redis keeps if any request has asked of them."""
    days = range(KEPT_AFTER_END.days + 1)
    names = {
        f"{budget.pk}/{window_name(budget.period, budget.project.today() - timedelta(days=ago))}"
        for budget in budgets.values()
        for ago in days
    }
    return sorted(names)


def budgets_of(project_id: int) -> dict[int, Budget]:
    return {budget.pk: budget for budget in Budget.objects.filter(project=project_id).select_related("project")}


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


def sqlite_is_served() -> bool:
    """Whether a gateway process holds the lock beside its database."""
    try:
        with lock_beside(settings.ENV.sqlite_path).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def postgresql_is_served() -> bool:
    """Whether a gateway process holds the lock of the only one."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, 0)", (LOCK_SPACE,))
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("SELECT pg_advisory_unlock(%s, 0)", (LOCK_SPACE,))
            return False
    return True

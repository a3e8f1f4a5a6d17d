"""Looks at the books of all projects, as of one moment each, and says what does not agree."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import structlog
from django.conf import settings

from billing.ledger.audit import Difference, Held, Overrun, State, Window, differences, overruns
from billing.ledger.locks import postgresql_is_served, sqlite_is_served
from billing.ledger.records import budgets_of, one_moment, records_of
from billing.ledger.redis import reader
from billing.ledger.redis.inspection import redis_books
from billing.ledger.steps import decode_draft, split
from billing.models import BudgetWindow, Outbox, OwedRecord, Reservation
from projects.models import Project

PAUSE_S = 1.0
"""Two stores are not read at one moment, nor is a gateway seen to start: what is wrong is still wrong after this time."""
RESOLVED_S = 15.0
"""A process without a sign of life has been dead for 30 s; what it held is resolved within 45 s of its death."""

MOST_UNCOUNTED = 1000
"""More records than these may take longer to be brought to Redis than the audit waits: it follows an outage."""
NO_PROJECT = 0

log = structlog.get_logger()


@dataclass
class Audit:
    """How much was looked at, and what was found. `overruns`: windows that may be beyond their limit. `uncompared`: how many records wait
    to be written of each project whose books were not compared because of that."""

    windows: int = 0
    held: int = 0
    found: list[Difference] = field(default_factory=list)
    overruns: list[Overrun] = field(default_factory=list)
    uncompared: dict[int, int] = field(default_factory=dict)


def audit_books() -> Audit:
    """What a second look still finds, where the first finds anything."""
    audit = look()
    if audit.found:
        seen = {(each.rule, each.subject) for each in audit.found}
        time.sleep(RESOLVED_S if settings.ENV.redis_url and any(rule == "I4" for rule, _ in seen) else PAUSE_S)
        uncompared, audit = audit.uncompared, look()
        audit.found = [each for each in audit.found if (each.rule, each.subject) in seen]
        audit.uncompared = uncompared | audit.uncompared
    for overrun in audit.overruns:
        log.warning("budget_overrun_allowed", window=overrun.subject, limit_nano=overrun.limit, taken_nano=overrun.taken)
    for project_id, waiting in audit.uncompared.items():
        log.warning("the books of a project are not compared: many records wait to be written", project_id=project_id, waiting=waiting)
    return audit


def look() -> Audit:
    audit = Audit()
    for state in current_state():
        audit.windows += len(state.windows)
        audit.held += len(state.held)
        audit.found += differences(state)
        audit.overruns += overruns(state)
        if state.waiting:
            audit.uncompared[state.project_id] = state.waiting
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
    yield State(NO_PROJECT, faults=list(uncounted()))


def uncounted() -> Iterator[Difference]:
    """Return the records that wait in the database. Redis answers, so that they should have been brought there."""
    ids = OwedRecord.objects.filter(owner="").order_by("pk").values_list("pk", flat=True)[: MOST_UNCOUNTED + 1]
    if len(ids) <= MOST_UNCOUNTED:
        yield from (Difference("I4", f"record {id} that waits in the database: in Redis", 1, 0) for id in ids)


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

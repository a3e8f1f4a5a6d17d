"""What Redis holds of a project, for pages, endpoints and the audit: read by threads and commands, outside the event loop."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import starmap
from typing import Any
from uuid import UUID

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing.ledger.entry import Entry
from billing.ledger.redis.drainer import entry_of, outbox
from billing.ledger.redis.scripts import PROJECTS, SNAPSHOT, alive, prefix
from billing.ledger.terms import LedgerUnavailable, Spending

TIMEOUT_S = 1.0
PAGE = 500
MOST_WAITING = 10_000
"""Events that are read at one moment: up to 40 ms in which Redis answers nobody else, and requests wait 50."""


@dataclass(frozen=True, slots=True)
class Held:
    """An open reservation of a process. `windows` are those that hold its amount, as budget id and name; `draft` is its record as an
    estimate."""

    id: UUID
    amount: int
    process: str
    key_id: int
    day: date
    windows: tuple[tuple[int, str], ...]
    draft: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis holds of a project at one moment.

    `windows`: budget id, name, what is spent and what is reserved. `unlisted`: those of them that no list of open windows has, so that not
    all that belongs there is counted. `illegible`: windows with amounts that are no numbers. `events` are records that the database does
    not have yet. `is_drained`: somebody takes them there, or there never were any. `living`: those processes, out of those that hold
    something, that have shown themselves lately.
    """

    windows: list[tuple[int, str, int, int]]
    unlisted: list[str]
    illegible: list[tuple[str, str]]
    held: list[Held]
    events: list[Entry]
    is_drained: bool
    living: set[str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """So many records wait in an outbox that they cannot be read at one moment."""

    waiting: int


@lru_cache(maxsize=1)
def client() -> Any:
    return redis.Redis.from_url(
        settings.ENV.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 1)
    )


@contextmanager
def answering() -> Iterator[Any]:
    """Raises LedgerUnavailable where Redis does not answer."""
    try:
        yield client()
    except redis.RedisError as error:
        raise LedgerUnavailable(str(error)) from error


def spending(project_id: int, windows: Sequence[tuple[int, str]]) -> list[Spending | None]:
    """What is spent and held in windows, each given by budget id and name; None where no request has asked of it yet."""
    with answering() as store, store.pipeline(transaction=False) as pipeline:
        for budget_id, name in windows:
            pipeline.hmget(f"{prefix(project_id)}w:{budget_id}/{name}", "spent", "reserved")
        return [None if spent is None else Spending(int(spent), int(reserved)) for spent, reserved in pipeline.execute()]


def projects() -> list[int]:
    """The ids of all projects that Redis knows."""
    with answering() as store:
        return sorted(int(project_id) for project_id in store.smembers(PROJECTS))


def reservations(project_id: int) -> list[Held]:
    with answering() as store:
        texts = store.hgetall(f"{prefix(project_id)}open")
    return list(starmap(held, texts.items()))


def held(id: bytes, text: bytes) -> Held:
    head, _, draft = text.partition(b"\n")
    amount, process, key_id, day, _since, _tokens, _shadow, names, _owners = head.decode().split(" ")
    pairs = (window.partition("/") for window in names.split(",") if window != "-")
    return Held(
        id=UUID(id.decode()),
        amount=int(amount),
        process=process,
        key_id=int(key_id),
        day=date.fromisoformat(day),
        windows=tuple((int(budget_id), name) for budget_id, _, name in pairs),
        draft=draft,
    )


def undrained(project_id: int) -> Iterator[Entry]:
    """Records that wait in the outbox. One may be in SQL already, but not be trimmed yet."""
    after = "-"
    with answering() as store:
        while page := store.xrange(outbox(project_id), after, "+", PAGE):
            yield from (entry_of(list(fields.values())) for _, fields in page)
            after = f"({page[-1][0].decode()}"


def snapshot(project_id: int, after: str, windows: Sequence[str]) -> Snapshot | Backlog | None:
    """All of it, with the events after a stream id; None where later ones have left the outbox meanwhile. `windows` (as `5/2026-11`) are
    looked for by name as well."""
    with answering() as store:
        if (waiting := store.xlen(outbox(project_id))) > MOST_WAITING:
            return Backlog(waiting)
        (told, *found), open, events = at_one_moment(store, project_id, after, windows)
        if told != b"ok":
            return None
        begun, rows = found
        reserved = list(starmap(held, open.items()))
        is_drained = not begun or bool(store.sismember(PROJECTS, project_id))
        shown = living(store, {each.process for each in reserved})
    made = Snapshot([], [], [], reserved, [entry_of(list(fields.values())) for _, fields in events], is_drained, shown)
    for window, is_listed, spent, amount in rows:
        take_in(made, window.decode(), spent, amount)
        if not is_listed:
            made.unlisted.append(window.decode())
    return made


def at_one_moment(store: Any, project_id: int, after: str, windows: Sequence[str]) -> list[Any]:
    """What SNAPSHOT tells, the reservations and the events. A script would take more than twice as long for the latter two, and for as
    long Redis answers nobody else."""
    with store.pipeline() as pipeline:
        pipeline.eval(SNAPSHOT.text, 1, prefix(project_id), after, *windows)
        pipeline.hgetall(f"{prefix(project_id)}open")
        pipeline.xrange(outbox(project_id), f"({after}", "+")
        answers: list[Any] = pipeline.execute()
    return answers


def living(store: Any, processes: set[str]) -> set[str]:
    """Those that have shown themselves lately."""
    with store.pipeline(transaction=False) as pipeline:
        for process in processes:
            pipeline.exists(alive(process))
        return {process for process, lives in zip(processes, pipeline.execute(), strict=True) if lives}


def take_in(made: Snapshot, window: str, spent: bytes, reserved: bytes) -> None:
    budget_id, _, name = window.partition("/")
    try:
        made.windows.append((int(budget_id), name, int(spent), int(reserved)))
    except ValueError:
        made.illegible.append((window, f"{spent!r} and {reserved!r}"))

"""What Redis holds of a project, for pages, endpoints and the audit: read by threads and commands, outside the event loop."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
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


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a budget, with the local dates that fall into it. `key_id` is None where it covers the project."""

    budget_id: int
    name: str
    key_id: int | None
    first: date
    last: date
    spending: Spending


@dataclass(frozen=True, slots=True)
class Held:
    """An open reservation. `windows` are those that hold its amount, as budget id and name; `age_s` is None where it is not known."""

    id: UUID
    amount: int
    process: str
    process_lives: bool
    key_id: int
    day: date
    age_s: float | None
    windows: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis holds of a project at one moment. `events` are records that the database does not have yet."""

    windows: list[Window]
    held: list[Held]
    events: list[Entry]


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


def windows(project_id: int) -> list[Window]:
    """All windows of a project that are kept, also some that have ended."""
    with answering() as store:
        state = store.hgetall(f"{prefix(project_id)}state")
    found = [part for field, text in state.items() if field.startswith(b"w:") for part in registered(field.decode()[2:], text.decode())]
    names = [(budget_id, name) for budget_id, name, *_ in found]
    return [Window(*each, amounts) for each, amounts in zip(found, spending(project_id, names), strict=True) if amounts is not None]


def registered(scope: str, text: str) -> Iterator[tuple[int, str, int | None, date, date]]:
    """The entries of one scope (`p` or `k5`): `12/2026-11;2026-11-01;2026-11-30;` and so on."""
    key_id = None if scope == "p" else int(scope[1:])
    parts = iter(text.split(";")[:-1])
    for window, first, last in zip(parts, parts, parts, strict=True):
        budget_id, _, name = window.partition("/")
        yield int(budget_id), name, key_id, date.fromisoformat(first), date.fromisoformat(last)


def reservations(project_id: int) -> list[Held]:
    with answering() as store:
        texts = store.hgetall(f"{prefix(project_id)}open")
        return [held(store, id, text) for id, text in texts.items()]


def held(store: Any, id: bytes, text: bytes) -> Held:
    amount, process, key_id, day, since, _tokens, _shadow, names, _owners = text.partition(b"\n")[0].decode().split(" ")
    pairs = (window.partition("/") for window in names.split(",") if window != "-")
    return Held(
        id=UUID(id.decode()),
        amount=int(amount),
        process=process,
        process_lives=bool(store.exists(alive(process))),
        key_id=int(key_id),
        day=date.fromisoformat(day),
        age_s=time.time() - int(since) / 1e6 if int(since) else None,
        windows=tuple((int(budget_id), name) for budget_id, _, name in pairs),
    )


def undrained(project_id: int, after: str = "0-0") -> Iterator[tuple[str, Entry]]:
    """Events that wait in the outbox after a stream id, each with its id. An event may be in SQL already, but not be trimmed yet."""
    with answering() as store:
        while page := store.xrange(outbox(project_id), f"({after}", "+", PAGE):
            for id, fields in page:
                after = id.decode()
                yield after, entry_of(list(fields.values()))


def snapshot(project_id: int, after: str) -> Snapshot | None:
    """All of it, with the events after a stream id; None where later ones have left the outbox meanwhile."""
    with answering() as store:
        told, *found = store.eval(SNAPSHOT.text, 1, prefix(project_id), after)
        if told != b"ok":
            return None
        windows, open, events = found
        reserved = [held(store, id, text) for id, text in zip(open[::2], open[1::2], strict=True)]
    return Snapshot([window_of(row) for row in windows], reserved, [entry_of(fields) for _, fields in events])


def window_of(row: list[bytes]) -> Window:
    scope, window, first, last, spent, amount = (part.decode() for part in row)
    budget_id, _, name = window.partition("/")
    key_id = None if scope == "w:p" else int(scope[3:])
    return Window(int(budget_id), name, key_id, date.fromisoformat(first), date.fromisoformat(last), Spending(int(spent), int(amount)))

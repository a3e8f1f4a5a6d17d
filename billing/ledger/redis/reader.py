"""What Redis holds of a project, for pages, endpoints and the audit: read by threads and commands, outside the event loop."""

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
class Held:
    """An open reservation. `windows` are those that hold its amount, as budget id and name; `draft` is its record as an estimate."""

    id: UUID
    amount: int
    process: str
    process_lives: bool
    key_id: int
    day: date
    windows: tuple[tuple[int, str], ...]
    draft: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Redis holds of a project at one moment.

    `windows`: budget id, name, what is spent and what is reserved. `unlisted`: those of them that no list of open windows has, so that not
    all that belongs there is counted. `illegible`: windows with amounts that are no numbers. `events` are records that the database does
    not have yet. `is_drained`: somebody takes them there, or there never were any.
    """

    windows: list[tuple[int, str, int, int]]
    unlisted: list[str]
    illegible: list[tuple[str, str]]
    held: list[Held]
    events: list[Entry]
    is_drained: bool


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
        return [held(store, id, text) for id, text in texts.items()]


def held(store: Any, id: bytes, text: bytes) -> Held:
    head, _, draft = text.partition(b"\n")
    amount, process, key_id, day, _since, _tokens, _shadow, names, _owners = head.decode().split(" ")
    pairs = (window.partition("/") for window in names.split(",") if window != "-")
    return Held(
        id=UUID(id.decode()),
        amount=int(amount),
        process=process,
        process_lives=bool(store.exists(alive(process))),
        key_id=int(key_id),
        day=date.fromisoformat(day),
        windows=tuple((int(budget_id), name) for budget_id, _, name in pairs),
        draft=draft,
    )


def undrained(project_id: int, after: str = "0-0") -> Iterator[tuple[str, Entry]]:
    """Events that wait in the outbox after a stream id, each with its id. An event may be in SQL already, but not be trimmed yet."""
    with answering() as store:
        while page := store.xrange(outbox(project_id), f"({after}", "+", PAGE):
            for id, fields in page:
                after = id.decode()
                yield after, entry_of(list(fields.values()))


def snapshot(project_id: int, after: str, windows: Sequence[str]) -> Snapshot | None:
    """All of it, with the events after a stream id; None where later ones have left the outbox meanwhile. `windows` (as `5/2026-11`) are
    looked for by name as well."""
    with answering() as store:
        told, *found = store.eval(SNAPSHOT.text, 1, prefix(project_id), after, *windows)
        if told != b"ok":
            return None
        begun, rows, open, events = found
        reserved = [held(store, id, text) for id, text in zip(open[::2], open[1::2], strict=True)]
        is_drained = not begun or bool(store.sismember(PROJECTS, project_id))
    made = Snapshot([], [], [], reserved, [entry_of(fields) for _, fields in events], is_drained)
    for window, is_listed, spent, amount in rows:
        take_in(made, window.decode(), spent, amount)
        if not is_listed:
            made.unlisted.append(window.decode())
    return made


def take_in(made: Snapshot, window: str, spent: bytes, reserved: bytes) -> None:
    budget_id, _, name = window.partition("/")
    try:
        made.windows.append((int(budget_id), name, int(spent), int(reserved)))
    except ValueError:
        made.illegible.append((window, f"{spent!r} and {reserved!r}"))

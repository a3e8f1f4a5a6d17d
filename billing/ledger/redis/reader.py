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

from billing.ledger.interface import LedgerUnavailable, WindowBalance
from billing.ledger.redis.client.scripts import PROJECTS_KEY, SNAPSHOT, heartbeat_key, key_prefix
from billing.ledger.redis.outbox.drainer import entry_from_fields, stream_key
from billing.ledger.usage_entry import UsageEntry

TIMEOUT_S = 1.0
PAGE_SIZE = 500
MAX_BACKLOG = 10_000
"""Events that are read at one moment: up to 40 ms in which Redis answers nobody else, and requests wait 50."""


@dataclass(frozen=True, slots=True)
class RedisReservation:
    """An open reservation of a process. `windows` are those that hold its amount, as budget id and name; `estimate` is its record as an
    estimate.
    """

    id: UUID
    amount: int
    process_id: str
    key_id: int
    day: date
    windows: tuple[tuple[int, str], ...]
    estimate: bytes


@dataclass(frozen=True, slots=True)
class RedisSnapshot:
    """What Redis holds of a project at one moment.

    `windows`: budget id, name, what is spent and what is reserved. `unindexed_windows`: those of them that no list of open windows has, so that not
    all that belongs there is counted. `unreadable_windows`: windows with amounts that are no numbers. `undrained_records` are records that the database does
    not have yet. `is_drained`: somebody takes them there, or there never were any. `live_processes`: those processes, out of those that hold
    something, that have shown themselves lately.
    """

    windows: list[tuple[int, str, int, int]]
    unindexed_windows: list[str]
    unreadable_windows: list[tuple[str, str]]
    reservations: list[RedisReservation]
    undrained_records: list[UsageEntry]
    is_drained: bool
    live_processes: set[str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """So many records wait in an outbox that they cannot be read at one moment."""

    count: int


@lru_cache(maxsize=1)
def client() -> Any:
    return redis.Redis.from_url(
        settings.ENV.redis_url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )


@contextmanager
def redis_errors() -> Iterator[Any]:
    """Raises LedgerUnavailable where Redis does not answer."""
    try:
        yield client()
    except redis.RedisError as error:
        raise LedgerUnavailable(str(error)) from error


def window_balances(project_id: int, windows: Sequence[tuple[int, str]]) -> list[WindowBalance | None]:
    """What is spent and held in windows, each given by budget id and name; None where no request has asked of it yet."""
    with redis_errors() as store, store.pipeline(transaction=False) as pipeline:
        for budget_id, name in windows:
            pipeline.hmget(f"{key_prefix(project_id)}w:{budget_id}/{name}", "spent", "reserved")
        return [
            None if spent is None else WindowBalance(int(spent), int(reserved))
            for spent, reserved in pipeline.execute()
        ]


def project_ids() -> list[int]:
    """The ids of all projects that Redis knows."""
    with redis_errors() as store:
        return sorted(int(project_id) for project_id in store.smembers(PROJECTS_KEY))


def reservations(project_id: int) -> list[RedisReservation]:
    with redis_errors() as store:
        texts = store.hgetall(f"{key_prefix(project_id)}open")
    return list(starmap(parse_reservation, texts.items()))


def parse_reservation(id: bytes, text: bytes) -> RedisReservation:
    head, _, estimate = text.partition(b"\n")
    amount, process_id, key_id, day, _since, _tokens, _shadow, names, _owners = head.decode().split(" ")
    pairs = (window.partition("/") for window in names.split(",") if window != "-")
    return RedisReservation(
        id=UUID(id.decode()),
        amount=int(amount),
        process_id=process_id,
        key_id=int(key_id),
        day=date.fromisoformat(day),
        windows=tuple((int(budget_id), name) for budget_id, _, name in pairs),
        estimate=estimate,
    )


def undrained_records(project_id: int) -> Iterator[UsageEntry]:
    """Records that wait in the outbox. One may be in SQL already, but not be trimmed yet."""
    after = "-"
    with redis_errors() as store:
        while page := store.xrange(stream_key(project_id), after, "+", PAGE_SIZE):
            yield from (entry_from_fields(list(fields.values())) for _, fields in page)
            after = f"({page[-1][0].decode()}"


def snapshot(project_id: int, after_id: str, windows: Sequence[str]) -> RedisSnapshot | Backlog | None:
    """All of it, with the events after a stream id; None where later ones have left the outbox meanwhile. `windows` (as `5/2026-11`) are
    looked for by name as well.
    """
    with redis_errors() as store:
        if (waiting := store.xlen(stream_key(project_id))) > MAX_BACKLOG:
            return Backlog(waiting)
        (reply, *found), open, events = read_atomically(store, project_id, after_id, windows)
        if reply != b"ok":
            return None
        has_epoch, rows = found
        reserved = list(starmap(parse_reservation, open.items()))
        is_drained = not has_epoch or bool(store.sismember(PROJECTS_KEY, project_id))
        live = live_processes(store, {each.process_id for each in reserved})
    result = RedisSnapshot(
        [],
        [],
        [],
        reserved,
        [entry_from_fields(list(fields.values())) for _, fields in events],
        is_drained,
        live,
    )
    for window, is_listed, spent, amount in rows:
        add_window(result, window.decode(), spent, amount)
        if not is_listed:
            result.unindexed_windows.append(window.decode())
    return result


def read_atomically(store: Any, project_id: int, after_id: str, windows: Sequence[str]) -> list[Any]:
    """What SNAPSHOT tells, the reservations and the events. A script would take more than twice as long for the latter two, and for as
    long Redis answers nobody else.
    """
    with store.pipeline() as pipeline:
        pipeline.eval(SNAPSHOT.text, 1, key_prefix(project_id), after_id, *windows)
        pipeline.hgetall(f"{key_prefix(project_id)}open")
        pipeline.xrange(stream_key(project_id), f"({after_id}", "+")
        answers: list[Any] = pipeline.execute()
    return answers


def live_processes(store: Any, process_ids: set[str]) -> set[str]:
    """Those that have shown themselves lately."""
    with store.pipeline(transaction=False) as pipeline:
        for process_id in process_ids:
            pipeline.exists(heartbeat_key(process_id))
        return {process for process, lives in zip(process_ids, pipeline.execute(), strict=True) if lives}


def add_window(snapshot: RedisSnapshot, window: str, spent: bytes, reserved: bytes) -> None:
    budget_id, _, name = window.partition("/")
    try:
        snapshot.windows.append((int(budget_id), name, int(spent), int(reserved)))
    except ValueError:
        snapshot.unreadable_windows.append((window, f"{spent!r} and {reserved!r}"))

"""Blocking queries of a project's data in Redis, for pages, endpoints and the audit."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap
from typing import Any

from billing.ledger.interface import LedgerLag, WindowBalance
from billing.ledger.redis.client.blocking_client import redis_errors
from billing.ledger.redis.client.keys import (
    PROJECTS_KEY,
    heartbeat_key,
    key_prefix,
    reservations_key,
    stream_key,
    window_key,
)
from billing.ledger.redis.client.scripts import SNAPSHOT
from billing.ledger.redis.reservation import RedisReservation
from billing.ledger.usage_entry import UsageEntry, decode_entry

PAGE_SIZE = 500
MAX_BACKLOG = 10_000
"""Maximum number of records that one snapshot reads.

Redis needs up to 40 ms to return them, and serves no other client during this time. By default, requests wait
at most 50 ms for Redis.
"""


@dataclass(frozen=True, slots=True)
class RedisSnapshot:
    """The data of a project in Redis as of one moment.

    `windows`: budget id, name, spent and reserved amount (nano-USD) of each window.
    `unindexed_windows`: windows that are missing from the lists of open windows, so that new spend does not
    count in them.
    `unreadable_windows`: windows whose amounts are not numbers, with the amounts as text.
    `undrained_records`: records of the stream after the given stream id.
    `is_registered`: the project is in the set of projects that the drainer reads, or has no epoch yet.
    `live_processes`: ids of the processes that have reservations and are alive.
    """

    windows: list[tuple[int, str, int, int]]
    unindexed_windows: list[str]
    unreadable_windows: list[tuple[str, str]]
    reservations: list[RedisReservation]
    undrained_records: list[UsageEntry]
    is_registered: bool
    live_processes: set[str]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The length of a record stream that was not read, because it has more than MAX_BACKLOG records."""

    count: int


def project_ids() -> list[int]:
    """Return the ids of the projects that the drainer and the reaper read."""
    with redis_errors() as redis:
        return sorted(int(project_id) for project_id in redis.smembers(PROJECTS_KEY))


def window_balances(project_id: int, windows: Mapping[int, str]) -> dict[int, WindowBalance]:
    """Return the balances of open windows, by budget id. Omit windows that no request has opened yet.

    `windows` maps budget ids to names of windows.
    """
    with redis_errors() as redis, redis.pipeline(transaction=False) as pipeline:
        for budget_id, name in windows.items():
            pipeline.hmget(window_key(project_id, budget_id, name), "spent", "reserved")
        return {
            budget_id: WindowBalance(int(spent), int(reserved))
            for budget_id, (spent, reserved) in zip(windows, pipeline.execute(), strict=True)
            if spent is not None
        }


def reservations(project_id: int) -> list[RedisReservation]:
    """Return all open reservations of a project."""
    with redis_errors() as redis:
        texts = redis.hgetall(reservations_key(project_id))
    return list(starmap(RedisReservation.parse, texts.items()))


def undrained_records(project_id: int) -> Iterator[UsageEntry]:
    """Yield the records of the stream.

    SQL may already have some of them, because the stream is trimmed only after the commit.
    """
    start = "-"
    with redis_errors() as redis:
        while page := redis.xrange(stream_key(project_id), start, "+", PAGE_SIZE):
            yield from (entry_from_fields(list(fields.values())) for _, fields in page)
            start = f"({page[-1][0].decode()}"


def lag() -> LedgerLag:
    """Return the number of records in all streams, and the age of the oldest one by the clock of Redis."""
    keys = [stream_key(project_id) for project_id in project_ids()]
    with redis_errors() as redis, redis.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.xlen(key)
            pipeline.xrange(key, "-", "+", 1)
        pipeline.time()
        *replies, (seconds, microseconds) = pipeline.execute()
    written_at = [int(page[0][0].partition(b"-")[0]) / 1000 for page in replies[1::2] if page]
    now = seconds + microseconds / 1e6
    return LedgerLag(sum(replies[::2]), max(0.0, now - min(written_at, default=now)))


def read_snapshot(project_id: int, after_id: str, windows: Sequence[str]) -> RedisSnapshot | Backlog | None:
    """Read a project's data as of one moment, with the records of the stream after `after_id`.

    The given windows (`5/2026-11`) are read even if they are missing from the lists of open windows. Returns
    None if the stream was trimmed beyond `after_id`, so that records may be missing.
    """
    with redis_errors() as redis:
        if (count := redis.xlen(stream_key(project_id))) > MAX_BACKLOG:
            return Backlog(count)
        (reply, *found), open, records = read_atomically(redis, project_id, after_id, windows)
        if reply != b"ok":
            return None
        has_epoch, rows = found
        reserved = list(starmap(RedisReservation.parse, open.items()))
        is_registered = not has_epoch or bool(redis.sismember(PROJECTS_KEY, project_id))
        live = live_processes(redis, {each.process_id for each in reserved})
    entries = [entry_from_fields(list(fields.values())) for _, fields in records]
    snapshot = RedisSnapshot([], [], [], reserved, entries, is_registered, live)
    for window, is_indexed, spent, amount in rows:
        add_window(snapshot, window.decode(), spent, amount)
        if not is_indexed:
            snapshot.unindexed_windows.append(window.decode())
    return snapshot


def read_atomically(redis: Any, project_id: int, after_id: str, windows: Sequence[str]) -> list[Any]:
    """Return the reply of SNAPSHOT, the reservations and the records, read in one Redis transaction.

    One script for all three would take more than twice as long, and would block Redis during this time.
    """
    with redis.pipeline() as pipeline:
        pipeline.eval(SNAPSHOT.text, 1, key_prefix(project_id), after_id, *windows)
        pipeline.hgetall(reservations_key(project_id))
        pipeline.xrange(stream_key(project_id), f"({after_id}", "+")
        replies: list[Any] = pipeline.execute()
    return replies


def live_processes(redis: Any, process_ids: set[str]) -> set[str]:
    """Return the ids of processes whose heartbeat has not expired."""
    with redis.pipeline(transaction=False) as pipeline:
        for process_id in process_ids:
            pipeline.exists(heartbeat_key(process_id))
        replies = zip(process_ids, pipeline.execute(), strict=True)
    return {process_id for process_id, is_alive in replies if is_alive}


def add_window(snapshot: RedisSnapshot, window: str, spent: bytes, reserved: bytes) -> None:
    budget_id, _, name = window.partition("/")
    try:
        snapshot.windows.append((int(budget_id), name, int(spent), int(reserved)))
    except ValueError:
        snapshot.unreadable_windows.append((window, f"{spent!r} and {reserved!r}"))


def entry_from_fields(fields: list[bytes]) -> UsageEntry:
    """Decode a record of the stream. Its last field contains the whole entry as JSON."""
    return decode_entry(fields[-1])

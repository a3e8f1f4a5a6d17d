"""Brings records to a project's outbox: each once, and none never, whatever Redis and this process have forgotten."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import Books, Kept
from billing.ledger.redis.connection import NotSent, StoreUnavailable
from billing.ledger.redis.memory import Memory, Posting
from billing.ledger.redis.scripts import CORRECT, LATE, PROJECTS, RECORD, SETTLE
from billing.ledger.redis.spillover import Spillover
from billing.ledger.redis.store import Rejected, Store
from billing.ledger.session import DatabaseErrors
from billing.ledger.steps import decode_draft, encode_draft
from billing.models import Correction

MARK_S = 300
"""How long Redis itself knows that a request is settled. Later, SQL is asked."""
ESTIMATE_MARK_S = 24 * 3600
"""For how long a process may be frozen and still find the estimate to correct in Redis."""
ATTEMPTS = 20
AGAIN_S = 0.05
AT_ONCE = 20
"""Records that are brought to Redis together, once it answers again: more would keep requests waiting."""
SETTLED = "s"

log = structlog.get_logger()


class Postman:
    def __init__(self, store: Store, books: Books, memory: Memory, spillover: Spillover) -> None:
        self.store = store
        self.books = books
        self.memory = memory
        self.spillover = spillover
        self.registered: set[int] = set()

    async def post(self, posting: Posting) -> bool:
        """Settles what the request held, if anything, and keeps its record. What fails is owed, and tried again by `post_owed`; until
        then PostgreSQL keeps it. False where that will help nobody now: Redis or the database does not answer."""
        # One that fails goes to the end: it may be one that fails always, which keeps none of the others back.
        self.memory.postings.pop(posting.entry.id, None)
        self.memory.postings[posting.entry.id] = posting
        answers = await self.try_to_deliver(posting)
        if posting.posted is None:
            await self.spillover.keep(posting)
        else:
            self.spillover.finish([posting.entry.id])
        return answers

    async def try_to_deliver(self, posting: Posting) -> bool:
        """Return False if Redis or the database does not answer."""
        posting.busy = True
        try:
            await self.deliver(posting)
        except Rejected as error:
            log.error("a record is refused by redis", request_id=posting.entry.request_id, reason=str(error))
        except (ValueError, msgspec.MsgspecError) as error:
            log.error("what redis knows of a record is damaged", request_id=posting.entry.request_id, reason=str(error))
        except (StoreUnavailable, *DatabaseErrors) as error:
            log.warning("a record waits", request_id=posting.entry.request_id, reason=str(error) or type(error).__name__)
            return False
        finally:
            posting.busy = False
        return True

    async def post_owed(self) -> None:
        """The first one alone shows whether Redis answers."""
        owed = self.memory.owed()
        for some in (owed[:1], *batched(owed[1:], AT_ONCE)):
            if not all(await asyncio.gather(*map(self.post, some))):
                return

    async def register(self, project_id: int) -> None:
        """Sees to it that the project's outbox is drained, before there is anything in it."""
        if project_id not in self.registered:
            await self.store.call_quickly("SADD", PROJECTS, project_id)
            self.registered.add(project_id)

    async def deliver(self, posting: Posting) -> None:
        await self.register(posting.entry.project_id)
        reply = await self.send(posting)
        for _ in range(ATTEMPTS):
            match reply:
                case [b"ok", place]:
                    posting.arrived(place.decode())
                    return
                case [b"done"]:
                    posting.arrived("-")
                    return
                case [b"estimated", _] if posting.estimates:
                    reply = [b"done"]
                case [b"estimated", text]:
                    reply = await self.correct(posting.entry, decode_draft(text))
                case [b"unknown"]:
                    reply = await self.post_late(posting)
                case _:
                    await asyncio.sleep(AGAIN_S)
                    reply = await self.send(posting)
        raise StoreUnavailable("the outbox is drained faster than it can be read")

    async def send(self, posting: Posting) -> Any:
        entry, was_fresh = posting.entry, posting.fresh
        # Another process may have brought to Redis what PostgreSQL has of it.
        epoch = self.spillover.only_known_in(entry.id, posting.epoch)
        fresh = was_fresh and epoch is not None
        posting.fresh = False
        day, text = entry.day.isoformat(), encode_draft(entry)
        failpoint("settle.before")
        try:
            if not posting.settles:
                reply = await self.store.run(RECORD, entry.project_id, entry.id.hex, entry.cost_nano, entry.key_id, day, text, MARK_S)
            else:
                used = entry.tokens.prompt + entry.tokens.output
                mark, mark_s = mark_of(posting)
                reply = await self.store.run(
                    SETTLE, entry.project_id, entry.id.hex, entry.cost_nano, used, entry.key_id, day, text,
                    mark, mark_s, int(fresh), epoch or "",
                )  # fmt: skip
        except NotSent:
            posting.fresh = was_fresh
            raise
        failpoint("settle.after")
        return reply

    async def post_late(self, posting: Posting) -> Any:
        """Neither a reservation nor a mark is left of the request, and it may have been posted: SQL and the outbox know."""
        entry = posting.entry
        kept, drained = await self.books.find(entry.project_id, entry.id)
        if kept is None:
            return await self.post_unless_there(entry, drained, *mark_of(posting))
        if not kept.estimated or entry.estimated:
            return [b"done"]
        correction = as_kept(entry, kept).corrected(entry.cost_nano, entry.tokens, Correction.LATE)
        kept, drained = await self.books.find(entry.project_id, correction.id)
        return [b"done"] if kept else await self.post_unless_there(correction, drained)

    async def post_unless_there(self, entry: Entry, drained: str, mark: str | bytes = SETTLED, mark_s: int = MARK_S) -> Any:
        return await self.store.run_patiently(
            LATE, entry.project_id, entry.id.hex, entry.cost_nano, entry.key_id, entry.day.isoformat(), encode_draft(entry), mark_s,
            drained, mark,
        )  # fmt: skip

    async def correct(self, entry: Entry, estimate: Entry) -> Any:
        """Another process took this one for dead, and has posted an estimate."""
        correction = estimate.corrected(entry.cost_nano, entry.tokens, Correction.LATE)
        log.warning("an estimate is corrected", request_id=entry.request_id, difference_nano=correction.cost_nano)
        return await self.store.run_patiently(
            CORRECT, entry.project_id, entry.id.hex, correction.id.hex, correction.cost_nano, entry.key_id, entry.day.isoformat(),
            encode_draft(correction), MARK_S,
        )  # fmt: skip


def batched(postings: list[Posting], size: int) -> Iterator[list[Posting]]:
    return (postings[start : start + size] for start in range(0, len(postings), size))


def mark_of(posting: Posting) -> tuple[str | bytes, int]:
    """Return what Redis shall remember of a request that has ended, and for how many seconds."""
    return (encode_draft(posting.entry), ESTIMATE_MARK_S) if posting.estimates else (SETTLED, MARK_S)


def as_kept(entry: Entry, kept: Kept) -> Entry:
    return replace(entry, cost_nano=kept.cost_nano, tokens=kept.tokens, estimated=kept.estimated)

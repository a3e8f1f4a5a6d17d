"""Ends what processes that are gone have left: records that they owe, and what the dead among them held. Whether the upstream was
called for that is not known, so the whole amount counts as spent."""

import msgspec
import structlog

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import Books
from billing.ledger.redis.collector import Collector
from billing.ledger.redis.memory import Posting
from billing.ledger.redis.posting import ESTIMATE_MARK_S, Postman
from billing.ledger.redis.scripts import OWNERS, PROJECTS, SETTLE, alive
from billing.ledger.redis.store import Rejected, Store
from billing.ledger.steps import decode_draft, encode_draft

PAGE = 100

log = structlog.get_logger()


class Reaper:
    def __init__(self, store: Store, books: Books, postman: Postman) -> None:
        self.store = store
        self.books = books
        self.postman = postman
        self.collector = Collector(books, postman)

    async def reap(self) -> int:
        """Resolves all reservations of processes that are not alive; returns how many."""
        await self.collect(estimates=True)
        resolved = 0
        for project_id in [int(project_id) for project_id in await self.store.call("SMEMBERS", PROJECTS)]:
            try:
                resolved += await self.reap_project(project_id)
            except Rejected as error:
                log.error("reservations of a project cannot be read", project_id=project_id, error=str(error))
        return resolved

    async def reap_project(self, project_id: int) -> int:
        owners = [owner.decode() for owner in await self.store.run_patiently(OWNERS, project_id)]
        dead = [owner for owner in owners if not await self.store.call("EXISTS", alive(owner))]
        return sum([await self.resolve_all(project_id, owner) for owner in dead])

    async def collect(self, *, estimates: bool = False) -> None:
        """Posts what was owed in the end: before its reservation is taken for a dead process's, and corrected then."""
        await self.collector.collect(estimates=estimates)

    async def resolve_all(self, project_id: int, owner: str) -> int:
        """Page by page. What could not be resolved stays in Redis, before what was not looked at yet: the next page is longer by as
        much, so that it keeps nothing else back."""
        tried: set[bytes] = set()
        resolved, stuck, is_last = 0, 0, False
        while not is_last:
            page = await self.store.run_patiently(OWNERS, project_id, owner, PAGE + stuck)
            is_last = len(page) < 2 * (PAGE + stuck)
            held = dict(zip(page[::2], page[1::2], strict=True))
            stuck = len(held.keys() & tried)
            for id in held.keys() - tried:
                resolved += await self.resolve_one(held[id], owner)
            tried |= held.keys()
        return resolved

    async def resolve_one(self, text: bytes, owner: str) -> bool:
        """One that cannot be resolved must not keep the others from it."""
        try:
            await self.resolve(estimate_of(text), owner)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error("reservation of a dead process could not be resolved", error=str(error), reservation=text)
            return False
        return True

    async def resolve(self, estimate: Entry, owner: str) -> None:
        """Posts the estimate. If the owner lives after all, it finds the mark and posts a correction."""
        kept, _ = await self.books.find(estimate.project_id, estimate.id)
        if kept is not None:
            # Redis lost the end of what it knew, its owner's settlement.
            estimate.cost_nano, estimate.tokens = kept.cost_nano, kept.tokens
        failpoint("resolve.before")
        text = encode_draft(estimate)
        used = estimate.tokens.prompt + estimate.tokens.output
        reply = await self.store.run_patiently(
            SETTLE, estimate.project_id, estimate.id.hex, estimate.cost_nano, used, estimate.key_id, estimate.day.isoformat(), text,
            text, ESTIMATE_MARK_S, 0, "", owner,
        )  # fmt: skip
        failpoint("resolve.after")
        if reply[0] == b"ok":
            posting = self.postman.memory.postings[estimate.id] = Posting(estimate, estimates=True, owner=owner, fresh=False)
            posting.arrived(reply[1].decode())
            log.warning("reservation of a dead process posted as an estimate", request_id=estimate.request_id, cost_nano=estimate.cost_nano)


def estimate_of(text: bytes) -> Entry:
    """The record that stands for an open reservation, from what Redis holds of it."""
    head, _, draft = text.partition(b"\n")
    amount, _owner, _key, _day, _since, _tokens, shadow, *_ = head.split(b" ")
    entry = decode_draft(draft)
    entry.cost_nano = entry.held_nano = int(amount)
    entry.estimated, entry.refusing_budget_id = True, int(shadow) or None
    return entry

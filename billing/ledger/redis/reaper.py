"""Resolves what dead processes held: whether the upstream was called is not known, so the whole amount counts as spent."""

import msgspec
import structlog

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import Books
from billing.ledger.redis.memory import Memory, Posting
from billing.ledger.redis.posting import ESTIMATE_MARK_S
from billing.ledger.redis.scripts import OWNERS, PROJECTS, SETTLE, alive
from billing.ledger.redis.store import Store
from billing.ledger.steps import decode_draft, encode_draft

PAGE = 100

log = structlog.get_logger()


class Reaper:
    def __init__(self, store: Store, books: Books, memory: Memory) -> None:
        self.store = store
        self.books = books
        self.memory = memory

    async def reap(self) -> int:
        """Resolves all reservations of processes that are not alive; returns how many."""
        resolved = 0
        for project_id in [int(project_id) for project_id in await self.store.call("SMEMBERS", PROJECTS)]:
            owners = [owner.decode() for owner in await self.store.run_patiently(OWNERS, project_id)]
            for owner in owners:
                if not await self.store.call("EXISTS", alive(owner)):
                    resolved += await self.resolve_all(project_id, owner)
        return resolved

    async def resolve_all(self, project_id: int, owner: str) -> int:
        found = await self.store.run_patiently(OWNERS, project_id, owner, PAGE)
        resolved = 0
        for text in found[1::2]:
            try:
                await self.resolve(estimate_of(text), owner)
                resolved += 1
            except (ValueError, msgspec.MsgspecError) as error:
                # One that cannot be resolved must not keep the others from it.
                log.error("reservation of a dead process could not be resolved", error=str(error), reservation=text)
        return resolved + (await self.resolve_all(project_id, owner) if resolved and len(found) == 2 * PAGE else 0)

    async def resolve(self, estimate: Entry, owner: str) -> None:
        """Posts the estimate. If the owner lives after all, it finds the mark and posts a correction."""
        kept, _ = await self.books.find(estimate.project_id, estimate.id)
        if kept is not None:
            # Its owner could reach SQL, but not Redis any more.
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
            self.memory.postings[estimate.id] = Posting(estimate, estimates=True, fresh=False, posted=reply[1].decode())
            log.warning("reservation of a dead process posted as an estimate", request_id=estimate.request_id, cost_nano=estimate.cost_nano)


def estimate_of(text: bytes) -> Entry:
    """The record that stands for an open reservation, from what Redis holds of it."""
    head, _, draft = text.partition(b"\n")
    amount, _owner, _key, _day, _since, _tokens, shadow, *_ = head.split(b" ")
    entry = decode_draft(draft)
    entry.cost_nano = entry.held_nano = int(amount)
    entry.estimated, entry.shadow_budget_id = True, int(shadow) or None
    return entry

"""What a process remembers of its requests, so that nothing is lost with Redis: what each holds, and each record until SQL has it."""

import time
from dataclasses import dataclass
from uuid import UUID

from billing.ledger.entry import Entry
from billing.ledger.terms import Demand

REMEMBERED_S = 60
"""A record that Redis has taken is forgotten after this time, if it is not known to be in SQL before."""

MOST_REFUSED = 10_000
"""Each refusal is followed by its record within milliseconds. This bounds the memory if records do not come."""


@dataclass(slots=True)
class Hold:
    """An open reservation of this process. `epoch`: the life of Redis that knows it; empty if it was made without Redis."""

    demand: Demand
    amount: int
    epoch: str


@dataclass(slots=True)
class Posting:
    """A record on its way to the outbox.

    `settles`: it ends a reservation, or costs something. `estimates`: that of a process that seems to be dead, whose own record
    would correct this one. `fresh`: it was never sent before, so that it cannot be there.
    `must_be_written`: a budget applies to it, so that its request does not end before a store has it. `owner`: the process that seems to
    be dead.
    `posted` is its place in the outbox (`-`: it is there somewhere); None while it is owed.
    """

    entry: Entry
    epoch: str = ""
    settles: bool = True
    estimates: bool = False
    fresh: bool = True
    must_be_written: bool = False
    owner: str = ""
    posted: str | None = None
    posted_at: float = 0.0
    busy: bool = False

    def arrived(self, place: str) -> None:
        self.posted, self.posted_at = place, time.monotonic()


class Memory:
    def __init__(self) -> None:
        self.holds: dict[UUID, Hold] = {}
        self.postings: dict[UUID, Posting] = {}
        self.voids: dict[UUID, int] = {}
        """Reservations that may have been made, or may yet be, for requests that were refused; and their projects."""
        self.refused: set[UUID] = set()
        """Requests under a budget that were not admitted, and whose records are still to come."""

    def note_refusal(self, demand: Demand) -> None:
        if len(self.refused) >= MOST_REFUSED:
            self.refused.clear()
        if demand.budgets:
            self.refused.add(demand.id)

    def was_refused(self, id: UUID) -> bool:
        """Return whether a budget applies to a request that was not admitted. The answer is yes at most once."""
        is_noted = id in self.refused
        self.refused.discard(id)
        return is_noted

    def owed(self) -> list[Posting]:
        return [posting for posting in self.postings.values() if posting.posted is None and not posting.busy]

    def projects(self) -> set[int]:
        """Those of which something would be lost with Redis."""
        held = {hold.demand.project_id for hold in self.holds.values()}
        return held | {posting.entry.project_id for posting in self.postings.values()}

    def holds_of(self, project_id: int) -> list[Hold]:
        return [hold for hold in self.holds.values() if hold.demand.project_id == project_id]

    def postings_of(self, project_id: int) -> list[Posting]:
        return [posting for posting in self.postings.values() if posting.entry.project_id == project_id]

    def forget_drained(self, drained: dict[int, str]) -> list[UUID]:
        """Drops records that SQL is known to have: up to a stream id, by project. Returns their ids."""
        limit = time.monotonic() - REMEMBERED_S
        known = [
            posting.entry.id
            for posting in self.postings.values()
            if posting.posted is not None and (posting.posted_at < limit or is_through(posting, drained))
        ]
        for id in known:
            del self.postings[id]
        return known


def is_through(posting: Posting, drained: dict[int, str]) -> bool:
    assert posting.posted is not None
    through = drained.get(posting.entry.project_id)
    return through is not None and posting.posted != "-" and place(posting.posted) <= place(through)


def place(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)

"""What a process remembers of its requests, so that nothing is lost with Redis: what each holds, and each record until SQL has it."""

import time
from dataclasses import dataclass
from uuid import UUID

from billing.ledger.interface import ReserveRequest
from billing.ledger.usage_entry import UsageEntry

RETENTION_S = 60
"""A record that Redis has taken is forgotten after this time, if it is not known to be in SQL before."""

MOST_REFUSED = 10_000
"""Each refusal is followed by its record within milliseconds. This bounds the memory if records do not come."""


@dataclass(slots=True)
class OpenReservation:
    """An open reservation of this process. `epoch`: the life of Redis that knows it; empty if it was made without Redis."""

    request: ReserveRequest
    amount: int
    epoch: str


@dataclass(slots=True)
class PendingRecord:
    """A record on its way to the outbox.

    `ends_reservation`: it ends a reservation, or costs something. `is_estimate`: that of a process that seems to be dead, whose own record
    would correct this one. `never_sent`: it was never sent before, so that it cannot be there.
    `must_be_written`: a budget applies to it, so that its request does not end before a store has it. `owner`: the process that seems to
    be dead.
    `stream_id` is its place in the outbox (`-`: it is there somewhere); None while it is owed.
    """

    entry: UsageEntry
    epoch: str = ""
    ends_reservation: bool = True
    is_estimate: bool = False
    never_sent: bool = True
    must_be_written: bool = False
    owner: str = ""
    stream_id: str | None = None
    written_at: float = 0.0
    in_progress: bool = False

    def mark_written(self, stream_id: str) -> None:
        self.stream_id, self.written_at = stream_id, time.monotonic()


class PendingState:
    def __init__(self) -> None:
        self.reservations: dict[UUID, OpenReservation] = {}
        self.records: dict[UUID, PendingRecord] = {}
        self.pending_cancellations: dict[UUID, int] = {}
        """Reservations that may have been made, or may yet be, for requests that were refused; and their projects."""
        self.refused: set[UUID] = set()
        """Requests under a budget that were not admitted, and whose records are still to come."""

    def note_refusal(self, demand: ReserveRequest) -> None:
        if len(self.refused) >= MOST_REFUSED:
            self.refused.clear()
        if demand.budgets:
            self.refused.add(demand.id)

    def was_refused(self, id: UUID) -> bool:
        """Return whether a budget applies to a request that was not admitted. The answer is yes at most once."""
        is_noted = id in self.refused
        self.refused.discard(id)
        return is_noted

    def unsent_records(self) -> list[PendingRecord]:
        return [
            posting
            for posting in self.records.values()
            if posting.stream_id is None and not posting.in_progress
        ]

    def project_ids(self) -> set[int]:
        """Those of which something would be lost with Redis."""
        held = {hold.request.project_id for hold in self.reservations.values()}
        return held | {posting.entry.project_id for posting in self.records.values()}

    def reservations_of(self, project_id: int) -> list[OpenReservation]:
        return [hold for hold in self.reservations.values() if hold.request.project_id == project_id]

    def records_of(self, project_id: int) -> list[PendingRecord]:
        return [posting for posting in self.records.values() if posting.entry.project_id == project_id]

    def drop_drained(self, drained: dict[int, str]) -> list[UUID]:
        """Drops records that SQL is known to have: up to a stream id, by project. Returns their ids."""
        limit = time.monotonic() - RETENTION_S
        known = [
            posting.entry.id
            for posting in self.records.values()
            if posting.stream_id is not None and (posting.written_at < limit or is_drained(posting, drained))
        ]
        for id in known:
            del self.records[id]
        return known


def is_drained(record: PendingRecord, drained: dict[int, str]) -> bool:
    assert record.stream_id is not None
    last_id = drained.get(record.entry.project_id)
    return (
        last_id is not None
        and record.stream_id != "-"
        and parse_stream_id(record.stream_id) <= parse_stream_id(last_id)
    )


def parse_stream_id(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)

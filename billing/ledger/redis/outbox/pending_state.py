"""The open reservations and pending records that a process keeps in case Redis loses them."""

import time
from dataclasses import dataclass
from uuid import UUID

from billing.ledger.interface import ReserveRequest
from billing.ledger.usage_entry import UsageEntry

RETENTION_S = 60
"""How long a process keeps a record that Redis has accepted, if it does not know whether SQL has it."""

MAX_DENIED = 10_000
"""Maximum number of denied requests in memory. Normally, each is recorded within milliseconds."""


@dataclass(slots=True)
class OpenReservation:
    """An open reservation of this process.

    `epoch` is the epoch in which Redis made the reservation. It is empty if the request was admitted without
    Redis.
    """

    request: ReserveRequest
    amount: int
    epoch: str


@dataclass(slots=True)
class PendingRecord:
    """A record on its way to the record stream.

    `epoch`: the epoch in which Redis made the reservation; empty if Redis did not make it.
    `ends_reservation`: the record ends a reservation, or has a cost.
    `is_estimate`: the record settles a request of the process `process_id`, which counts as dead. If that
    process is alive, it may still correct the record.
    `never_sent`: the record was never sent to Redis, so the stream cannot have it.
    `must_be_written`: a budget applies, so the request may not end before Redis or SQL has the record.
    `stream_id`: the id of the record in the stream, `-` if it is not known; None until Redis has accepted it.
    """

    entry: UsageEntry
    epoch: str = ""
    ends_reservation: bool = True
    is_estimate: bool = False
    never_sent: bool = True
    must_be_written: bool = False
    process_id: str = ""
    stream_id: str | None = None
    written_at: float = 0.0
    in_progress: bool = False

    def mark_written(self, stream_id: str) -> None:
        self.stream_id, self.written_at = stream_id, time.monotonic()


class PendingState:
    """The open reservations and pending records of one process, by request id."""

    def __init__(self) -> None:
        self.reservations: dict[UUID, OpenReservation] = {}
        self.records: dict[UUID, PendingRecord] = {}
        self.pending_cancellations: dict[UUID, int] = {}
        """Project ids of denied requests that Redis may have reserved or may still reserve, by request id."""
        self.pending_deferrals: dict[UUID, int] = {}
        """Project ids of deferred requests, by request id, whose reservation Redis has not ended yet."""
        self.denied: set[UUID] = set()
        """The ids of denied requests that have a budget, and whose record is not written yet."""

    def note_denial(self, request: ReserveRequest) -> None:
        if len(self.denied) >= MAX_DENIED:
            self.denied.clear()
        if request.budgets:
            self.denied.add(request.id)

    def was_denied(self, id: UUID) -> bool:
        """Return whether a request that has a budget was denied, and remove it from `denied`."""
        is_noted = id in self.denied
        self.denied.discard(id)
        return is_noted

    def unsent_records(self) -> list[PendingRecord]:
        return [
            record for record in self.records.values() if record.stream_id is None and not record.in_progress
        ]

    def unsent_count(self) -> int:
        """Return the number of records that Redis has not accepted. It may be called from any thread."""
        return sum(record.stream_id is None for record in list(self.records.values()))

    def project_ids(self) -> set[int]:
        """Return the ids of projects with an open reservation or a pending record."""
        reserving = {reservation.request.project_id for reservation in self.reservations.values()}
        return reserving | {record.entry.project_id for record in self.records.values()}

    def reservations_of(self, project_id: int) -> list[OpenReservation]:
        return [each for each in self.reservations.values() if each.request.project_id == project_id]

    def records_of(self, project_id: int) -> list[PendingRecord]:
        return [record for record in self.records.values() if record.entry.project_id == project_id]

    def drop_drained(self, drained: dict[int, str]) -> list[UUID]:
        """Remove the records that SQL has, and return their ids.

        `drained` maps project ids to the stream ids up to which their streams are drained.
        """
        expired_at = time.monotonic() - RETENTION_S
        dropped = [
            record.entry.id
            for record in self.records.values()
            if record.stream_id is not None
            and (record.written_at < expired_at or is_drained(record, record.stream_id, drained))
        ]
        for id in dropped:
            del self.records[id]
        return dropped


def is_drained(record: PendingRecord, stream_id: str, drained: dict[int, str]) -> bool:
    last_id = drained.get(record.entry.project_id)
    return last_id is not None and stream_id != "-" and parse_stream_id(stream_id) <= parse_stream_id(last_id)


def parse_stream_id(stream_id: str) -> tuple[int, int]:
    milliseconds, _, number = stream_id.partition("-")
    return int(milliseconds), int(number)

"""The state of one project, read as of one moment, which the audit checks. Amounts are nano-USD."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import structlog

from billing.ledger.usage_entry import UsageEntry
from billing.models import Budget

RollupKey = tuple[date, int | None, str, str]
"""What one row of a roll-up sums up: a day, a key, the requested model and its provider."""
RollupSums = tuple[int, ...]
"""The sums of such a row, in the order of `checks.ROLLUP_COLUMNS`."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A violated rule.

    `expected` and `actual` are amounts or counts, or text if there is no number to show.
    """

    rule: str
    subject: str
    expected: int | str
    actual: int | str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.actual}"


@dataclass(frozen=True, slots=True)
class Overrun:
    """A hard budget beyond its limit because requests were admitted while Redis was down.

    The operator allows this with `GATEWAY_REDIS_DOWN_BUDGETS=open`, so it is not a mismatch.
    """

    subject: str
    limit: int
    used: int

    def __str__(self) -> str:
        beyond = self.used - self.limit
        return (
            f"allowed: {self.subject}: {beyond} of the {self.used} spent and reserved "
            "was admitted while Redis was down"
        )


@dataclass(frozen=True, slots=True)
class WindowSnapshot:
    """The counters of a budget window."""

    budget_id: int
    name: str
    spent: int
    reserved: int

    @property
    def id(self) -> tuple[int, str]:
        return self.budget_id, self.name

    @property
    def used(self) -> int:
        return self.spent + self.reserved

    def __str__(self) -> str:
        return f"budget {self.budget_id}, window {self.name}"


@dataclass(frozen=True, slots=True)
class ReservationSnapshot:
    """An open reservation and the windows that count it.

    `is_orphaned`: its process is dead, so it should have been settled by now. `unchecked`: the request was
    admitted while Redis was down.
    """

    id: UUID
    key_id: int
    day: date
    created_at: datetime
    amount: int
    windows: frozenset[tuple[int, str]]
    is_orphaned: bool
    unchecked: bool = False


@dataclass(frozen=True, slots=True)
class SpendRow:
    """The spend of a key on a day: the sum over its records, or one record that is not drained yet.

    `overrun` is how much requests that were checked against their budgets cost beyond their reservations.
    """

    key_id: int | None
    day: date
    cost: int
    overrun: int = 0


@dataclass
class RecordsSnapshot:
    """The database's view of a project's requests.

    `spent_before_change`: for each window beyond its limit, the cost of records from before the last change
    of its budget. `unchecked`: for each window beyond its limit, what requests that were admitted while Redis
    was down have spent or reserved. `settled_ids`: the open reservations that have a record.
    `duplicate_corrections`: the number of late corrections of each record that has several.
    `orphan_corrections`: corrected records that do not exist. `wrong_costs`: id, cost by tokens and price,
    and stored cost of records whose two costs differ. `record_sums` and `rollup_sums`: what the records of
    each roll-up row add up to, and what the row says.
    """

    spend_rows: list[SpendRow] = field(default_factory=list)
    spent_before_change: dict[tuple[int, str], int] = field(default_factory=dict)
    unchecked: dict[tuple[int, str], int] = field(default_factory=dict)
    settled_ids: set[UUID] = field(default_factory=set)
    duplicate_corrections: dict[UUID, int] = field(default_factory=dict)
    orphan_corrections: list[UUID] = field(default_factory=list)
    wrong_costs: list[tuple[UUID, int, int]] = field(default_factory=list)
    record_sums: dict[RollupKey, RollupSums] = field(default_factory=dict)
    rollup_sums: dict[RollupKey, RollupSums] = field(default_factory=dict)


@dataclass
class LedgerSnapshot:
    """The ledger of one project, as of one moment.

    `undrained_records`: records that the database does not have yet. `read_errors`: mismatches that were
    found while reading. `backlog`: the number of records that wait in Redis, if there are too many to compare
    anything.
    """

    project_id: int
    budgets: dict[int, Budget] = field(default_factory=dict)
    windows: list[WindowSnapshot] = field(default_factory=list)
    reservations: list[ReservationSnapshot] = field(default_factory=list)
    undrained_records: list[UsageEntry] = field(default_factory=list)
    records: RecordsSnapshot = field(default_factory=RecordsSnapshot)
    read_errors: list[Mismatch] = field(default_factory=list)
    backlog: int = 0


def read_or_report(project_id: int, read: Callable[[], LedgerSnapshot]) -> LedgerSnapshot:
    """Read a snapshot; if that fails, report it as a mismatch, so that the other projects are audited."""
    try:
        return read()
    except Exception as error:
        log.error(
            "ledger_audit_read_failed",
            message="The ledger of a project cannot be read. The audit continues with the other projects.",
            project_id=project_id,
            exc_info=error,
        )
        reason = f"{type(error).__name__}: {error}"
        unread = Mismatch("unread", f"project {project_id}", "a ledger that can be read", reason)
        return LedgerSnapshot(project_id, read_errors=[unread])

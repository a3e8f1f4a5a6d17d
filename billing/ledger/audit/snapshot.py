"""Types of a snapshot: the ledger of one project as of one moment. Amounts are nano-USD."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import structlog

from billing.ledger.usage_entry import UsageEntry
from billing.models import Budget

RollupKey = tuple[date, int | None, str, str]
"""The dimensions of one roll-up row: day, key, requested model, provider."""
RollupSums = tuple[int, ...]
"""The sums of one roll-up row, in the order of `checks.ROLLUP_COLUMNS`."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A violation of a rule. `expected` and `actual` are amounts, counts or texts."""

    rule: str
    subject: str
    expected: int | str
    actual: int | str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: expected {self.expected}, found {self.actual}"


@dataclass(frozen=True, slots=True)
class Overrun:
    """A hard budget that exceeds its limit because requests were admitted while Redis was down.

    This is not a mismatch, because the operator allows it with `GATEWAY_REDIS_DOWN_BUDGETS=open`.
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
    """The spent and reserved amounts of a budget window, as the ledger has counted them."""

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
    """An open reservation, with the ids of the windows in which it counts.

    `is_orphaned`: its process is dead, so the gateway should have settled it. `unchecked`: the request was
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
    """The spend of a key on a day: the sum over its records in the database, or one undrained record.

    `overrun` is the amount by which requests cost more than their reservations. Requests that were admitted
    while Redis was down are not included.
    """

    key_id: int | None
    day: date
    cost: int
    overrun: int = 0


@dataclass
class RecordsSnapshot:
    """Results of the audit's queries of the usage records of a project.

    `spent_before_change`: for each window that exceeds its limit, the cost of records from before the last
    change of its budget.
    `unchecked`: for each window that exceeds its limit, the amount spent or reserved by requests that were
    admitted while Redis was down.
    `settled_ids`: the ids of open reservations that already have a record.
    `duplicate_corrections`: for each record with several late corrections, their number.
    `orphan_corrections`: ids of corrected records that do not exist.
    `wrong_costs`: for each record whose cost is wrong, its id, the cost computed from its tokens and price,
    and its stored cost.
    `record_sums` and `rollup_sums`: for each roll-up row, the sums over its records, and the stored sums.
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
    """The ledger of one project as of one moment.

    `undrained_records`: records that the database does not have yet.
    `read_errors`: mismatches that were found while the snapshot was read.
    `backlog`: the number of undrained records if there are too many to audit, else 0. All other fields are
    then empty.
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
    """Read a snapshot. If this fails, return one with a mismatch, so that the other projects are audited."""
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

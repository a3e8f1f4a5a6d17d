"""What the ledger is asked, what it grants, and how it refuses."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from billing.ledger.entry import Entry


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """A budget as gateway processes remember it."""

    id: int
    period: str
    limit_nano: int
    covers_project: bool


@dataclass(frozen=True, slots=True)
class Demand:
    """A request for money and a place in the rate window.

    `at_least` is the least amount in nano-USD that is of use, `at_most` what the request could cost without a limit: where
    they differ, what the budgets have left between the two is granted. `draft` is the record to keep should the process die.
    """

    id: UUID
    project_id: int
    key_id: int
    zone: ZoneInfo
    at_least: int
    at_most: int
    budgets: tuple[BudgetTerms, ...]
    rpm_limit: int | None
    draft: Entry


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money held: `amount` nano-USD until it is settled or released."""

    id: UUID
    amount: int
    requests_left: int | None = None


class Refused(Exception):
    """The ledger did not admit the request and wrote nothing."""


class BudgetExceeded(Refused):
    """A budget has less left than the request needs; carries which one, in nano-USD, and when it begins anew (UTC)."""

    def __init__(self, budget: BudgetTerms, left: int, needed: int, resets_at: datetime) -> None:
        super().__init__(f"budget {budget.id} has {left} left of {budget.limit_nano}, {needed} needed")
        self.budget, self.left, self.needed, self.resets_at = budget, left, needed, resets_at


class RateExceeded(Refused):
    """The key has used up its requests of this minute; carries the limit and the seconds until the next one."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(f"{limit} requests per minute used up")
        self.limit, self.retry_after = limit, retry_after


class LedgerUnavailable(Exception):
    """The ledger's database does not answer: nothing may be spent."""

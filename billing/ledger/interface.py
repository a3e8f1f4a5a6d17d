"""What the ledger is asked, what it grants, and how it refuses."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from billing.ledger.usage_entry import UsageEntry
from billing.models import Mode, Outcome
from billing.pricing import Tokens

MAX_RESERVATION_NANO = 2**53
"""No request holds more than these 9 million USD: Redis' Lua counts exactly up to here, and SQL can still add many of them."""

SHUTDOWN_ERROR = "service_unavailable"
"""The error of a request that was stopped."""


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """A budget as gateway processes remember it."""

    id: int
    period: str
    limit_nano: int
    is_project_wide: bool
    mode: str = Mode.HARD.value

    @property
    def is_hard(self) -> bool:
        return self.mode == Mode.HARD.value


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What a key (`k12`) or a project (`p3`) may ask in any minute, and at once; None where it has no such limit."""

    owner: str
    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    @property
    def is_project_wide(self) -> bool:
        return self.owner.startswith("p")


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """A request for money and for places in the limits' windows.

    `min_nano` is the least amount in nano-USD that is of use, `max_nano` what the request could cost without a limit: where
    they differ, what the hard budgets have left between the two is granted. `tokens` is an estimate of the tokens that it
    will use. `estimate` is the record to keep should the process die.
    """

    id: UUID
    project_id: int
    key_id: int
    timezone: ZoneInfo
    min_nano: int
    max_nano: int
    budgets: tuple[BudgetLimit, ...]
    rate_limits: tuple[RateLimit, ...]
    tokens: int
    estimate: UsageEntry

    def cancelled_record(self) -> UsageEntry:
        """The record of a request that its process stopped before anything was sent: it has cost nothing."""
        estimate = self.estimate
        return replace(
            estimate,
            tokens=Tokens(),
            cost_nano=0,
            estimated=False,
            outcome=Outcome.UNAVAILABLE.value,
            status_code=503,
            error=SHUTDOWN_ERROR,
        )


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """How far a limit is used: what is left of it, and in how many seconds all of it will be there again."""

    limit: int
    remaining: int
    resets_after: float


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The tightest limits that apply to a request, after it was counted; None where there is none of a kind."""

    requests: LimitStatus | None = None
    tokens: LimitStatus | None = None


NO_LIMITS = RateLimitStatus()


@dataclass(frozen=True, slots=True)
class ReservationGrant:
    """Money held: `amount` nano-USD until it is settled or released. `shadow_budget_id`: a budget that would have refused."""

    id: UUID
    amount: int
    rate_limit_status: RateLimitStatus = NO_LIMITS
    shadow_budget_id: int | None = None


class AdmissionDenied(Exception):
    """The ledger did not admit the request and wrote nothing. `rate_limit_status` is that of the limits, where they were asked."""

    rate_limit_status: RateLimitStatus = NO_LIMITS


class BudgetExceeded(AdmissionDenied):
    """A hard budget has less left than the request needs; carries which one, in nano-USD, and when it begins anew (UTC; None:
    never).
    """

    def __init__(self, budget: BudgetLimit, remaining: int, needed: int, resets_at: datetime | None) -> None:
        super().__init__(f"budget {budget.id} has {remaining} left of {budget.limit_nano}, {needed} needed")
        self.budget, self.remaining, self.needed, self.resets_at = budget, remaining, needed, resets_at


class RateLimitExceeded(AdmissionDenied):
    """A limit is used up; carries whose, of what (`requests`, `tokens` or `concurrent`), and the seconds until there is room.

    `retry_after` is None for a request that alone needs more tokens than the limit: it never fits.
    """

    def __init__(self, rate_limit: RateLimit, kind: str, limit: int, retry_after: float | None) -> None:
        super().__init__(f"limit of {limit} {kind} used up by {rate_limit.owner}")
        self.rate_limit, self.kind, self.limit, self.retry_after = rate_limit, kind, limit, retry_after


class LedgerUnavailable(Exception):
    """The ledger's store does not answer: nothing may be spent."""


@dataclass(frozen=True, slots=True)
class WindowBalance:
    """What is spent and held in a budget's current window, in nano-USD."""

    spent: int = 0
    reserved: int = 0


class Ledger(Protocol):
    """The books of a process, in SQL or in Redis. Whoever reserved must settle or release, whatever happens between."""

    async def start(self) -> int:
        """Makes it ready to admit; returns how many reservations of dead processes were resolved."""

    async def stop(self) -> None:
        """Writes all that was submitted, then lets go."""

    def now(self) -> float:
        """The store's clock, in seconds since the epoch: days and minutes are counted by it."""

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        """Admits a request and holds its money, in one step; raises BudgetExceeded, RateExceeded or LedgerUnavailable, and has
        then written nothing. Whoever is cancelled while it waits holds nothing, and the ledger keeps its record.
        """

    async def rate_limit_status(self, project_id: int, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        """How far limits are used, without counting; raises LedgerUnavailable."""

    async def settle(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """Charges `entry.cost_nano` in place of what was held, and keeps the record. It does not fail: what cannot be written
        now is written as soon as the store answers again.
        """

    async def release(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """Gives back what was held: nothing was spent. The record says why."""

    async def record(self, entry: UsageEntry) -> None:
        """Keeps the record of a request that was never admitted."""

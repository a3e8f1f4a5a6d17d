"""The ledger's interface: what a request reserves, what it is granted, and how it is denied.

Amounts are nano-USD.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from billing.ledger.usage_entry import UsageEntry
from billing.models import Mode, Outcome
from billing.pricing import Tokens

MAX_RESERVATION_NANO = 2**53
"""No request reserves more than these 9 million USD.

Redis' Lua counts exactly up to this number, and SQL's 64 bits can add many of them.
"""

WINDOW_RETENTION = timedelta(days=2)
"""How long a window is kept after its end.

Streams that started before the end are settled after it, and pages and alerts look back.
"""

SHUTDOWN_ERROR = "service_unavailable"
"""The error code on the record of a request that its process stopped."""

DATABASE, REDIS = "database", "redis"
"""The components that a ledger depends on, as `LedgerUnavailable` and `Ledger.degraded` name them."""


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """A budget as gateway processes cache it."""

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
    """The limits of a key (`owner` is `k12`) or a project (`p3`): per minute, and concurrent requests.

    None means that there is no limit of that kind.
    """

    owner: str
    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    @property
    def is_project_wide(self) -> bool:
        return self.owner.startswith("p")


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """A request to reserve money, and to count in the rate limits.

    `max_nano` is what the request can cost at most, `min_nano` the smallest amount that is of use to it. If
    the hard budgets have less left than `max_nano`, but at least `min_nano`, the rest is granted. `tokens` is
    an estimate of the tokens that the request will use. `estimate` is the record to write if the process
    dies.
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
        """Return the free record of a request that its process stopped before anything was sent upstream."""
        return replace(
            self.estimate,
            tokens=Tokens(),
            cost_nano=0,
            estimated=False,
            outcome=Outcome.UNAVAILABLE.value,
            status_code=503,
            error=SHUTDOWN_ERROR,
        )


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The status of one rate limit: what remains of it, and the seconds until it is fully available again."""

    limit: int
    remaining: int
    resets_after: float


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The most restrictive limits of a request, after it was counted; None if there is no limit of a kind."""

    requests: LimitStatus | None = None
    tokens: LimitStatus | None = None


NO_LIMITS = RateLimitStatus()


@dataclass(frozen=True, slots=True)
class ReservationGrant:
    """A reserved `amount`, until it is settled or released.

    `shadow_budget_id` is the shadow budget that would have denied the request.
    """

    id: UUID
    amount: int
    rate_limit_status: RateLimitStatus = NO_LIMITS
    shadow_budget_id: int | None = None


class AdmissionDenied(Exception):
    """The ledger did not admit a request, and wrote nothing.

    `rate_limit_status` is that of the request's rate limits, or NO_LIMITS if they were not checked.
    """

    rate_limit_status: RateLimitStatus = NO_LIMITS


class BudgetExceeded(AdmissionDenied):
    """A hard budget has less left than a request needs.

    `resets_at` is when the budget resets (UTC), None if it does not reset.
    """

    def __init__(self, budget: BudgetLimit, remaining: int, needed: int, resets_at: datetime | None) -> None:
        super().__init__(f"budget {budget.id} has {remaining} left of {budget.limit_nano}, {needed} needed")
        self.budget, self.remaining, self.needed, self.resets_at = budget, remaining, needed, resets_at


class RateLimitExceeded(AdmissionDenied):
    """A rate limit of a kind (`requests`, `tokens` or `concurrent`) is used up.

    `retry_after` is the seconds until there is room, None for a request that needs more tokens than the
    limit.
    """

    def __init__(self, rate_limit: RateLimit, kind: str, limit: int, retry_after: float | None) -> None:
        super().__init__(f"limit of {limit} {kind} used up by {rate_limit.owner}")
        self.rate_limit, self.kind, self.limit, self.retry_after = rate_limit, kind, limit, retry_after


class LedgerUnavailable(Exception):
    """The ledger cannot check a budget now, so nothing may be spent.

    `component` is what does not answer, DATABASE or REDIS; None while the ledger rebuilds its counters.
    """

    def __init__(self, message: str = "", *, component: str | None = None) -> None:
        super().__init__(message)
        self.component = component


@dataclass(frozen=True, slots=True)
class WindowBalance:
    """The spent and reserved amounts of a budget's window."""

    spent: int = 0
    reserved: int = 0


class Amount(NamedTuple):
    """The cost or the reserved amount of a request that started on a day."""

    key_id: int | None
    day: date
    nano: int


class Ledger(Protocol):
    """The ledger of a process, in SQL or in Redis. Every reservation must be settled or released."""

    async def start(self) -> int:
        """Get ready to admit requests; return how many reservations of dead processes were settled."""

    async def stop(self) -> None:
        """Write everything that was submitted, then close the connections."""

    def now(self) -> float:
        """Return the store's clock as Unix time in seconds. Days and minutes are counted by it."""

    def degraded(self) -> tuple[str, ...]:
        """Return the components that are down while the ledger goes on without them."""

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        """Admit a request and reserve its money, atomically.

        Raises BudgetExceeded, RateLimitExceeded or LedgerUnavailable, and has then reserved nothing. A caller
        that is cancelled while it waits has reserved nothing either, and the ledger writes the request's
        record.
        """

    async def rate_limit_status(self, project_id: int, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        """Return how far limits are used, without counting a request; raise LedgerUnavailable."""

    async def settle(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """Charge `entry.cost_nano` instead of the reserved amount, and write the record.

        This does not fail: what cannot be written now is written as soon as the store answers again.
        """

    async def release(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """Return the reserved amount: nothing was spent. Write the record, which says why."""

    async def defer(self, reservation: ReservationGrant) -> None:
        """Return the reserved amount, and write no record: the provider continues in the background.

        `settle` follows when the cost is known, perhaps in another process. If this process dies before the
        amount is returned, the reservation becomes an estimate, which `settle` then corrects.
        """

    async def acquire_lease(self) -> bool:
        """Return whether this process runs the tasks that one process at a time runs.

        Two processes may believe so for a moment. Raises LedgerUnavailable.
        """

    async def record(self, entry: UsageEntry) -> None:
        """Write the record of a request that was not admitted."""

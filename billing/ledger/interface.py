"""The interface of the ledger: `Ledger`, the types of its arguments and results, and its exceptions.

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
"""The maximum amount of a reservation, 9 million USD.

Numbers in Redis' Lua scripts are exact up to this number, and a 64-bit column in SQL can hold the sum of many
reservations.
"""

WINDOW_RETENTION = timedelta(days=2)
"""How long Redis keeps a window after its end.

Streams that started before the end may be settled after it. Pages and alerts read past windows.
"""

SHUTDOWN_ERROR = "service_unavailable"
"""The error code in the record of a request whose process was shut down."""

DATABASE, REDIS = "database", "redis"
"""Names of the components that a ledger depends on, for `LedgerUnavailable` and `Ledger.degraded`."""


@dataclass(frozen=True, slots=True)
class BudgetLimit:
    """The columns of a budget that gateway processes cache."""

    id: int
    period: str
    limit_nano: int
    is_project_wide: bool
    mode: str = Mode.HARD.value

    @property
    def is_hard(self) -> bool:
        return self.mode == Mode.HARD.value


OWNER_KINDS = {"k": "API key", "p": "project", "a": "address"}
"""The kind of owner of a rate limit, by the first letter of the owner's name."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The limits of a key or project on requests and tokens per minute, and on concurrent requests.

    `owner` is `k12` for the key with the id 12, `p3` for the project with the id 3, and `a192.0.2.1` for the
    callers without a key from this client network. None means no limit.
    """

    owner: str
    requests: int | None = None
    tokens: int | None = None
    concurrent: int | None = None

    @property
    def owner_kind(self) -> str:
        """Return what the owner is: API key, project or address."""
        return OWNER_KINDS[self.owner[0]]


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """A request for admission, with what the ledger needs to know.

    `max_nano` is the maximum cost of the request, and `min_nano` the smallest reservation with which it can
    run. If less than `max_nano` but at least `min_nano` remains in the hard budgets, the remainder is
    reserved.
    `tokens` is an estimate of the tokens that the request will use, for the rate limits.
    `estimate` is the record to write if the process dies.
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
        """Return a record without a cost, for a request that ended before it was sent to a provider."""
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
    """The status of one rate limit.

    `resets_after` is the number of seconds until the whole limit is available again.
    """

    limit: int
    remaining: int
    resets_after: float


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """The most restrictive rate limits that apply to a request. None means that there is no limit."""

    requests: LimitStatus | None = None
    tokens: LimitStatus | None = None


NO_LIMITS = RateLimitStatus()


@dataclass(frozen=True, slots=True)
class ReservationGrant:
    """An open reservation of `amount`, which the caller must settle, release or defer.

    `shadow_budget_id` is the id of the shadow budget that would have denied the request, or None.
    """

    id: UUID
    amount: int
    rate_limit_status: RateLimitStatus = NO_LIMITS
    shadow_budget_id: int | None = None


class AdmissionDenied(Exception):
    """Raised if the ledger does not admit a request. It has then reserved nothing.

    `rate_limit_status` is NO_LIMITS if the rate limits were not checked.
    """

    rate_limit_status: RateLimitStatus = NO_LIMITS


class BudgetExceeded(AdmissionDenied):
    """Raised if less remains in a hard budget than a request needs.

    `resets_at` is the time at which the budget resets (UTC), or None if it does not reset.
    """

    def __init__(self, budget: BudgetLimit, remaining: int, needed: int, resets_at: datetime | None) -> None:
        super().__init__(f"budget {budget.id} has {remaining} left of {budget.limit_nano}, {needed} needed")
        self.budget, self.remaining, self.needed, self.resets_at = budget, remaining, needed, resets_at


class RateLimitExceeded(AdmissionDenied):
    """Raised if a request would exceed a rate limit. `kind` is `requests`, `tokens` or `concurrent`.

    `retry_after` is the number of seconds after which the request may succeed. It is None if the request
    alone needs more tokens than the limit.
    """

    def __init__(self, rate_limit: RateLimit, kind: str, limit: int, retry_after: float | None) -> None:
        super().__init__(f"limit of {limit} {kind} used up by {rate_limit.owner}")
        self.rate_limit, self.kind, self.limit, self.retry_after = rate_limit, kind, limit, retry_after


class LedgerUnavailable(Exception):
    """Raised if the ledger cannot admit a request now because a component is down.

    `component` is the component that does not answer, DATABASE or REDIS. It is None while the ledger rebuilds
    its counters, and for other reasons.
    """

    def __init__(self, message: str = "", *, component: str | None = None) -> None:
        super().__init__(message)
        self.component = component


@dataclass(frozen=True, slots=True)
class WindowBalance:
    """The spent and reserved amounts of a budget window."""

    spent: int = 0
    reserved: int = 0


class LedgerLag(NamedTuple):
    """The number of records that SQL does not have yet, and the age of the oldest one in seconds."""

    records: int = 0
    oldest_s: float = 0.0


class Amount(NamedTuple):
    """The cost or the reserved amount of one request. `day` is the day on which the request started."""

    key_id: int | None
    day: date
    nano: int


class Ledger(Protocol):
    """The ledger of a process, in SQL or in Redis.

    The caller of `reserve` must end each reservation with `settle`, `release` or `defer`.
    """

    async def start(self) -> int:
        """Prepare to admit requests. Return the number of settled reservations of dead processes."""

    async def stop(self) -> None:
        """Write all pending records, then close the connections."""

    def now(self) -> float:
        """Return the time by which days and minutes are counted, as Unix time in seconds."""

    def unsent_records(self) -> int:
        """Return the number of settlements and records in memory that no store has yet. Thread-safe."""

    def degraded(self) -> tuple[str, ...]:
        """Return the components that are down, if the ledger works without them."""

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        """Atomically check all limits and reserve the amount of a request.

        Raises BudgetExceeded, RateLimitExceeded or LedgerUnavailable. Nothing is reserved then. If the caller
        is cancelled while it waits, the ledger undoes the reservation and writes the record of the request.
        """

    async def extend(
        self, reservation: ReservationGrant, amount: int, budgets: tuple[BudgetLimit, ...]
    ) -> ReservationGrant | None:
        """Atomically reserve `amount` more for a request of this process. Return the new reservation.

        `budgets` are those of the request. The result is None if a hard budget has less left, or if the store
        does not answer. The given reservation then still applies.
        """

    async def rate_limit_status(self, project_id: int, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        """Return the status of rate limits without counting a request. Raises LedgerUnavailable."""

    async def settle(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """Replace the reserved amount by the cost `entry.cost_nano`, and write the record.

        This does not raise. If a store is down, the record is written when the store answers again.
        """

    async def release(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        """End a reservation without a cost, and write the record."""

    async def defer(self, reservation: ReservationGrant) -> None:
        """End a reservation without a record, because the provider continues in the background.

        When the cost is known, this or another process must call `settle`. If this process dies before the
        reservation has ended, the reservation becomes an estimate, which the later `settle` corrects.
        """

    async def acquire_lease(self) -> bool:
        """Return whether this process must run the background tasks that only one process runs.

        For a short time, two processes may have the lease. Raises LedgerUnavailable.
        """

    async def record(self, entry: UsageEntry) -> None:
        """Write the record of a request that was not admitted."""

"""The ledger: reserve money before a provider is called, and settle or release it afterwards."""

from billing.ledger.interface import (
    NO_LIMITS,
    AdmissionDenied,
    BudgetExceeded,
    Ledger,
    LedgerUnavailable,
    LimitStatus,
    RateLimitExceeded,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
)
from billing.ledger.sql.ledger import SqlLedger
from billing.ledger.usage_entry import UsageEntry

__all__ = [
    "NO_LIMITS",
    "AdmissionDenied",
    "BudgetExceeded",
    "Ledger",
    "LedgerUnavailable",
    "LimitStatus",
    "RateLimitExceeded",
    "RateLimitStatus",
    "ReservationGrant",
    "ReserveRequest",
    "SqlLedger",
    "UsageEntry",
    "current",
    "install",
    "unsent_records",
]

_current: list[Ledger] = []


def install(ledger: Ledger) -> None:
    """Set the ledger of this process. Called once, when the server starts."""
    _current[:] = [ledger]


def current() -> Ledger:
    """Return the ledger of this process."""
    return _current[0]


def unsent_records() -> int:
    """Return the number of records in the memory of this process that no store has yet."""
    return sum(ledger.unsent_records() for ledger in _current)

"""The one door for spend: reserve before the upstream is called, settle or release after."""

from billing.ledger.entry import Entry
from billing.ledger.sql import SqlLedger
from billing.ledger.terms import BudgetExceeded, Demand, LedgerUnavailable, RateExceeded, Refused, Reservation

__all__ = [
    "BudgetExceeded",
    "Demand",
    "Entry",
    "LedgerUnavailable",
    "RateExceeded",
    "Refused",
    "Reservation",
    "SqlLedger",
    "current",
    "install",
]

_current: list[SqlLedger] = []


def install(ledger: SqlLedger) -> None:
    """Makes this the ledger of the process: called once, when the server starts."""
    _current[:] = [ledger]


def current() -> SqlLedger:
    """The ledger of this process."""
    return _current[0]

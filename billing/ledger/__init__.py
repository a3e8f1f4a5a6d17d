"""The one door for spend: reserve before the upstream is called, settle or release after."""

from billing.ledger.entry import Entry
from billing.ledger.sql import SqlLedger
from billing.ledger.terms import UNLIMITED, BudgetExceeded, Demand, Ledger, LedgerUnavailable, RateExceeded, Refused, Reservation, Standing

__all__ = [
    "UNLIMITED",
    "BudgetExceeded",
    "Demand",
    "Entry",
    "Ledger",
    "LedgerUnavailable",
    "RateExceeded",
    "Refused",
    "Reservation",
    "SqlLedger",
    "Standing",
    "current",
    "install",
]

_current: list[Ledger] = []


def install(ledger: Ledger) -> None:
    """Makes this the ledger of the process: called once, when the server starts."""
    _current[:] = [ledger]


def current() -> Ledger:
    """The ledger of this process."""
    return _current[0]

"""Blocking access to the data of the ledger, for code that does not run in the event loop.

Pages, alerts, commands and the audit use it, because they run in threads or in other processes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from django.conf import settings

from billing.ledger.audit.snapshot import LedgerSnapshot
from billing.ledger.interface import Amount, LedgerLag, WindowBalance
from billing.ledger.redis.reader import RedisReader
from billing.ledger.sql.reader import SqlReader
from billing.ledger.usage_entry import UsageEntry


class LedgerReader(Protocol):
    """Blocking access to the data of a ledger.

    Every method raises LedgerUnavailable if Redis does not answer, and Django's errors if the database fails.
    """

    orphan_recheck_delay_s: float
    """The seconds after which an audit expects the reservations of a dead process to be settled."""

    def window_balances(self, project_id: int, windows: Mapping[int, str]) -> dict[int, WindowBalance]:
        """Return the balances of open windows, by budget id. Omit windows that no request has opened yet.

        `windows` maps budget ids to names of windows.
        """

    def undrained_records(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        """Yield the id and the cost of each record that the database does not have yet."""

    def lag(self) -> LedgerLag:
        """Return how many records the database does not have yet, and the age of the oldest one."""

    def open_reservations(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        """Yield the id and the amount of each open reservation. Its record will have the same id."""

    def save_corrections(self, corrections: Sequence[UsageEntry]) -> None:
        """Write corrections, and add their costs to the open windows of their days."""

    def snapshots(self) -> Iterator[LedgerSnapshot]:
        """Yield a snapshot of each project for the audit."""


def current_reader() -> LedgerReader:
    """Return the reader of the ledger that the environment configures."""
    return RedisReader() if settings.ENV.redis_url else SqlReader()

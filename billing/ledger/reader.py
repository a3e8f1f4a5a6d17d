"""Access to the ledger's store for pages, alerts, commands and the audit.

They run in threads or processes of their own, outside the gateway's event loop.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol
from uuid import UUID

from django.conf import settings

from billing.ledger.audit.snapshot import LedgerSnapshot
from billing.ledger.interface import Amount, WindowBalance
from billing.ledger.redis.reader import RedisReader
from billing.ledger.sql.reader import SqlReader
from billing.ledger.usage_entry import UsageEntry


class LedgerReader(Protocol):
    """Blocking access to a ledger's store.

    Every method raises LedgerUnavailable if Redis does not answer, or one of Django's database errors.
    """

    orphan_recheck_delay_s: float
    """After this many seconds, the reservations of a process that died are settled."""

    def window_balances(self, project_id: int, windows: Mapping[int, str]) -> dict[int, WindowBalance]:
        """Return the balances of windows by budget id, without those that no request has opened yet.

        `windows` maps budget ids to names of windows.
        """

    def undrained_records(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        """Yield the costs of settled requests whose records are not in the database yet, by record id."""

    def open_reservations(self, project_id: int) -> Iterator[tuple[UUID, Amount]]:
        """Yield the reserved amounts of requests in flight, by the id that their records will have."""

    def save_corrections(self, corrections: Sequence[UsageEntry]) -> None:
        """Write correcting records and add their costs to the open windows of their days."""

    def snapshots(self) -> Iterator[LedgerSnapshot]:
        """Yield what the audit compares, project by project, each as of one moment."""


def current_reader() -> LedgerReader:
    """Return the reader of the store that the environment names."""
    return RedisReader() if settings.ENV.redis_url else SqlReader()

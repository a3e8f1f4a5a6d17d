"""Opens budget windows in Redis. The spent amount of a new window is the sum of its records in SQL.

A window is opened on a new day, for a new budget, or because Redis has lost it.
"""

import asyncio
import time

from billing.budgets.windows import ends_at, window_days, window_name
from billing.ledger.failpoints import failpoint
from billing.ledger.interface import WINDOW_RETENTION, BudgetLimit, ReserveRequest
from billing.ledger.redis.client.client import RedisClient
from billing.ledger.redis.client.protocol import RedisUnavailable
from billing.ledger.redis.client.scripts import OPEN_WINDOW
from billing.ledger.redis.record_store import RecordStore

MAX_ATTEMPTS = 20
RETRY_DELAY_S = 0.05
MAX_REMEMBERED = 1000


class WindowOpener:
    def __init__(self, client: RedisClient, record_store: RecordStore) -> None:
        self.client = client
        self.record_store = record_store
        self.lock = asyncio.Lock()
        self.opened_at: dict[tuple[int, str], float] = {}
        """The time when this process last opened a window (monotonic clock), by budget id and name."""

    async def open(self, budget: BudgetLimit, request: ReserveRequest, epoch: str) -> None:
        """Open a window.

        Requests that wait for the same window share one call. A window that is already open does not change.

        Raises RedisUnavailable, or one of DatabaseErrors.
        """
        requested_at = time.monotonic()
        window = (budget.id, window_name(budget.period, request.estimate.day))
        async with self.lock:
            if self.opened_at.get(window, 0.0) < requested_at:
                await self._open(budget, request, epoch)
                if len(self.opened_at) > MAX_REMEMBERED:
                    self.opened_at.clear()
                self.opened_at[window] = time.monotonic()

    async def _open(self, budget: BudgetLimit, request: ReserveRequest, epoch: str) -> None:
        name = window_name(budget.period, request.estimate.day)
        owner_column, owner_id, owner = (
            ("project_id", request.project_id, "p")
            if budget.is_project_wide
            else ("key_id", request.key_id, f"k{request.key_id}")
        )
        first, last = window_days(name)
        expires_ms = self.expires_ms(name, request)
        trimmed_to: str | None = None
        for attempt in range(MAX_ATTEMPTS):
            failpoint("open_window.before")
            spent, drained_id = await self.record_store.sum_spent(
                request.project_id, owner_column, owner_id, (first, last)
            )
            if attempt == MAX_ATTEMPTS - 1 and trimmed_to is not None:
                # SQL was restored from a backup, so it lacks records that are already trimmed from Redis.
                # These records cannot be counted.
                drained_id = trimmed_to
            reply = await self.client.run_slow(
                OPEN_WINDOW,
                request.project_id,
                f"{budget.id}/{name}",
                owner,
                first.isoformat(),
                last.isoformat(),
                spent,
                drained_id,
                expires_ms,
                epoch,
            )
            if reply[0] != b"retry":
                return
            trimmed_to = reply[1].decode()
            await asyncio.sleep(RETRY_DELAY_S)
        raise RedisUnavailable(f"window {name} of budget {budget.id} cannot be opened")

    def expires_ms(self, name: str, request: ReserveRequest) -> int:
        """Return when Redis deletes a window, as Unix time in milliseconds; 0 for never.

        A window may already have ended when it is opened, for example if the clock was set back. Redis then
        keeps it for WINDOW_RETENTION from now.
        """
        end = ends_at(name, request.timezone)
        if end is None:
            return 0
        return int((max(end.timestamp(), self.client.now()) + WINDOW_RETENTION.total_seconds()) * 1000)

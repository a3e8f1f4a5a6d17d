"""Begins windows of budgets in Redis from what SQL has spent in them: on a new day, for a new budget, after a loss alike."""

import asyncio
import time
from datetime import timedelta

from billing.ledger.failpoints import failpoint
from billing.ledger.redis.books import Books
from billing.ledger.redis.connection import StoreUnavailable
from billing.ledger.redis.scripts import OPEN
from billing.ledger.redis.store import Store
from billing.ledger.terms import BudgetTerms, Demand
from billing.ledger.windows import days_of, ends_at, window_name

KEPT_AFTER_END = timedelta(days=2)
"""Streams that began before the end are settled after it, and pages look back. By a clock that was set back, a window may have ended
before it opens."""
ATTEMPTS = 20
AGAIN_S = 0.05
REMEMBERED = 1000


class Opener:
    def __init__(self, store: Store, books: Books) -> None:
        self.store = store
        self.books = books
        self.lock = asyncio.Lock()
        self.opened: dict[tuple[int, str], float] = {}
        """When each window of today was opened by this process."""

    async def open(self, budget: BudgetTerms, demand: Demand, epoch: str) -> None:
        """Raises StoreUnavailable, or one of DatabaseErrors. A window that is open is left as it is; one for which another request
        waits is opened once."""
        asked = time.monotonic()
        window = (budget.id, window_name(budget.period, demand.draft.day))
        async with self.lock:
            if self.opened.get(window, 0.0) < asked:
                await self.open_now(budget, demand, epoch)
                if len(self.opened) > REMEMBERED:
                    self.opened.clear()
                self.opened[window] = time.monotonic()

    async def open_now(self, budget: BudgetTerms, demand: Demand, epoch: str) -> None:
        name = window_name(budget.period, demand.draft.day)
        column, owner, scope = (
            ("project_id", demand.project_id, "p") if budget.covers_project else ("key_id", demand.key_id, f"k{demand.key_id}")
        )
        first, last = days_of(name)
        end = ends_at(name, demand.zone)
        expires_ms = 0 if end is None else int((max(end.timestamp(), self.store.now()) + KEPT_AFTER_END.total_seconds()) * 1000)
        trimmed: str | None = None
        for attempt in range(ATTEMPTS):
            failpoint("open_window.before")
            spent, drained = await self.books.spent(demand.project_id, column, owner, (first, last))
            if attempt == ATTEMPTS - 1 and trimmed is not None:
                # SQL was restored from a backup: it has forgotten events that Redis no longer has.
                drained = trimmed
            reply = await self.store.run_patiently(
                OPEN,
                demand.project_id,
                f"{budget.id}/{name}",
                scope,
                first.isoformat(),
                last.isoformat(),
                spent,
                drained,
                expires_ms,
                epoch,
            )
            if reply[0] != b"again":
                return
            trimmed = reply[1].decode()
            await asyncio.sleep(AGAIN_S)
        raise StoreUnavailable(f"window {name} of budget {budget.id} does not open")

"""The writer of the prompt log: redacts, compresses, encrypts and stores entries in bulk.

Entries wait in a queue with limits. If the queue is full, an entry is dropped and counted, so a request never
waits for the log. A separate thread writes the entries several times a second. When the process stops, it
writes the rest.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.db import Error as DatabaseError
from django.db import IntegrityError, transaction

from projects.db.executor import with_reconnect
from projects.db.health import database_health
from proxy import telemetry
from proxy.models import PromptLogEntry, PromptLogUser
from proxy.models.prompt_log import end_user_rows
from proxy.prompt_log.capture import Capture

FLUSH_INTERVAL_S = 0.5
BATCH_SIZE = 100
MAX_QUEUED = 2000
MAX_QUEUED_BYTES = 64 * 1024 * 1024
MAX_ATTEMPTS = 3
"""How often the rest of the queue is written when the process stops."""

log = structlog.get_logger()

Row = tuple[PromptLogEntry, list[PromptLogUser]]


class PromptLogWriter:
    """Stores captures. `submit`, `run` and `stop` are called on the event loop."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prompt-log")
        self.queue: deque[Capture] = deque()
        self.queued_bytes = 0
        self.batch: list[Capture] = []
        """The captures that the thread writes now, or that it could not write."""
        self.is_dropping = False

    def submit(self, capture: Capture) -> None:
        """Queue the entry of a request that has ended."""
        size = capture.memory_bytes
        if len(self.queue) >= MAX_QUEUED or self.queued_bytes + size > MAX_QUEUED_BYTES:
            self.drop(1, "the queue is full")
            return
        self.is_dropping = False
        self.queue.append(capture)
        self.queued_bytes += size

    def drop(self, count: int, reason: str) -> None:
        """Count entries that are lost. Log only the first of several consecutive losses."""
        telemetry.prompt_log_dropped.inc(count)
        if not self.is_dropping:
            log.warning(
                "prompt_log_entries_dropped",
                message="Prompts and responses are not logged. Their requests are not affected.",
                reason=reason,
            )
        self.is_dropping = True

    async def run(self) -> None:
        """Write the queue several times a second, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            if not database_health.is_down:
                await self.flush()

    async def flush(self) -> bool:
        """Write the queue in batches. Return False if the database does not accept a batch.

        That batch is written again by the next call. If this call is cancelled, the thread still completes
        the batch, and the next call writes it again, which has no effect.
        """
        loop = asyncio.get_running_loop()
        while self.batch or self.queue:
            self.batch = self.batch or self.take_batch()
            if not await loop.run_in_executor(self.executor, self.write, self.batch):
                return False
            self.batch = []
        return True

    def take_batch(self) -> list[Capture]:
        batch = [self.queue.popleft() for _ in range(min(len(self.queue), BATCH_SIZE))]
        self.queued_bytes -= sum(capture.memory_bytes for capture in batch)
        return batch

    async def stop(self) -> None:
        """Write the rest of the queue. Entries that cannot be written are dropped."""
        for _ in range(MAX_ATTEMPTS):
            if await self.flush():
                return
        lost = len(self.batch) + len(self.queue)
        self.drop(lost, "the database does not accept them before the process stops")
        self.queue.clear()
        self.batch, self.queued_bytes = [], 0

    def write(self, batch: Sequence[Capture]) -> bool:
        """Write a batch, in the thread of the writer. Return False if the database does not accept it."""
        rows = [row for capture in batch for row in self.seal(capture)]
        try:
            with_reconnect(save, rows)
        except IntegrityError:
            self.save_separately(rows)
        except DatabaseError as error:
            log.warning(
                "prompt_log_delayed",
                message="The prompt log cannot be written now. The gateway tries again.",
                reason=f"{type(error).__name__}: {error}",
            )
            return False
        return True

    def seal(self, capture: Capture) -> list[Row]:
        """Return the row of an entry; nothing if it cannot be built."""
        time.sleep(0)  # Let the event loop run between two entries.
        try:
            sealed = capture.build_body().seal(capture.project_id)
        except Exception as error:
            self.drop(1, f"{type(error).__name__}: {error}")
            return []
        entry = PromptLogEntry(id=capture.id, project_id=capture.project_id, sealed_body=sealed)
        return [(entry, end_user_rows(entry, capture.end_users))]

    def save_separately(self, rows: Sequence[Row]) -> None:
        """Write entries one by one, because the project of one of them was deleted."""
        for row in rows:
            try:
                save([row])
            except DatabaseError as error:
                self.drop(1, f"{type(error).__name__}: {error}")


def save(rows: Sequence[Row]) -> None:
    """Insert entries and their end users in one transaction. Entries that exist are not changed."""
    with transaction.atomic():
        PromptLogEntry.objects.bulk_create([entry for entry, _ in rows], ignore_conflicts=True)
        if end_users := [end_user for _, named in rows for end_user in named]:
            PromptLogUser.objects.bulk_create(end_users, ignore_conflicts=True)


prompt_log_writer = PromptLogWriter()

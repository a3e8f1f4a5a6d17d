"""The ledger on Redis, for any number of processes.

One Lua script reserves the amount of a request, and one settles it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from billing.ledger.failpoints import failpoint
from billing.ledger.interface import (
    DATABASE,
    MAX_RESERVATION_NANO,
    NO_LIMITS,
    REDIS,
    AdmissionDenied,
    BudgetLimit,
    LedgerUnavailable,
    RateLimit,
    RateLimitStatus,
    ReservationGrant,
    ReserveRequest,
)
from billing.ledger.rate_limiter import RateLimiter
from billing.ledger.redis import reserve_codec
from billing.ledger.redis.background import BackgroundTasks
from billing.ledger.redis.client.client import CommandRejected, RedisClient
from billing.ledger.redis.client.keys import heartbeat_key
from billing.ledger.redis.client.protocol import CommandNotSent, RedisUnavailable
from billing.ledger.redis.client.scripts import EXTEND, RATE_STATUS, RESERVE, RESTORE
from billing.ledger.redis.epochs import REBUILD_GRACE_S, EpochTracker
from billing.ledger.redis.outbox.drainer import Drainer
from billing.ledger.redis.outbox.pending_state import OpenReservation, PendingRecord, PendingState
from billing.ledger.redis.outbox.spillover import Spillover
from billing.ledger.redis.outbox.writer import OutboxWriter
from billing.ledger.redis.reaper import Reaper
from billing.ledger.redis.record_store import RecordStore
from billing.ledger.redis.releases import end_reservations
from billing.ledger.redis.windows import WindowOpener
from billing.ledger.sql.connection import DatabaseErrors, LedgerConnection, connect
from billing.ledger.usage_entry import UsageEntry
from projects.ids import uuid7

MAX_ATTEMPTS = 10
"""Maximum number of calls for one reservation.

A call fails if an epoch has begun, or if a window is missing.
"""
RECOVERY_TIMEOUT_S = 1.0
"""Sum of the pauses between the MAX_ATTEMPTS attempts of a starting process to send unsent records."""
STOP_TIMEOUT_S = 5.0
NEW_PROJECT_WAIT_S = 0.3
"""How long a request waits if the epoch of its project has just begun.

A new epoch blocks budget windows for REBUILD_GRACE_S. If the project is new, the process that registers the
epoch sees in SQL that nothing was lost, and ends the block at once. The request waits for that.
"""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """The policy for requests if Redis does not answer within `timeout_s`.

    If `allow_limited` is true, requests with rate limits but without a hard budget are admitted. Each process
    then counts the rate limits separately. If `allow_budgeted` is true, requests with a hard budget are
    admitted.
    """

    timeout_s: float = 0.05
    allow_limited: bool = True
    allow_budgeted: bool = False


DEFAULT_POLICY = OutagePolicy()


class RedisLedger:
    """The ledger of one of several processes, each with its own event loop."""

    def __init__(
        self,
        url: str,
        policy: OutagePolicy = DEFAULT_POLICY,
        connect: Callable[[], LedgerConnection] = connect,
    ) -> None:
        self.policy = policy
        self.process_id = uuid7().hex
        self.client = RedisClient(url, timeout_s=policy.timeout_s)
        self.record_store, self.drain_store = RecordStore(connect()), RecordStore(connect())
        self.rate_limiter = RateLimiter()
        self.pending = PendingState()
        self.epochs = EpochTracker(self.client, self.record_store, self.restore_project)
        self.window_opener = WindowOpener(self.client, self.record_store)
        self.spillover = Spillover(
            self.record_store,
            self.pending,
            self.process_id,
            lambda project_id: self.epochs.by_project.get(project_id, ""),
        )
        self.outbox_writer = OutboxWriter(self.client, self.record_store, self.pending, self.spillover)
        self.drainer = Drainer(self.client, self.drain_store)
        self.reaper = Reaper(self.client, self.drain_store, self.outbox_writer)
        self.background_tasks = BackgroundTasks(
            self.process_id, self.client, self.drainer, self.reaper, self.tick, self.retry_pending, self.spill
        )
        self.times_connected = 0
        self.spawned_tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Wait until projects whose data Redis has lost are rebuilt, and send unsent records.

        Returns the number of settled reservations of dead processes, which is always 0 here. Only a process
        that has been connected to Redis for some time can tell which processes are dead, so the reaper
        settles their reservations later.
        """
        await self.client.open()
        self.times_connected = self.client.fast.times_connected
        await self.client.warn_if_no_aof()
        await self.background_tasks.send_heartbeat()
        await self.background_tasks.tick()
        infos = await asyncio.gather(
            *map(self.epochs.ensure_epoch, await self.record_store.registered_projects())
        )
        await asyncio.sleep(max((info.opens_in_s for info in infos), default=0.0))
        await self.recover_unsent_records()
        self.background_tasks.start()
        return 0

    async def recover_unsent_records(self) -> None:
        """Send unsent records, so that their cost counts before this process admits a request."""
        for _ in range(MAX_ATTEMPTS):
            with suppress(RedisUnavailable):
                await self.reaper.settle_unsent()
                return
            await asyncio.sleep(RECOVERY_TIMEOUT_S / MAX_ATTEMPTS)
        log.warning(
            "unsent_records_delayed",
            message="Unsent records in the database could not be sent to Redis yet. They are sent later.",
        )

    async def stop(self) -> None:
        if self.spawned_tasks:
            _, late = await asyncio.wait(self.spawned_tasks, timeout=STOP_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.background_tasks.stop()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._flush_and_leave()
        except Exception as error:
            # All errors are caught, because the unsent records must still be saved.
            log.warning(
                "ledger_stopped_without_redis",
                message="The ledger stopped before it could send all records to Redis. "
                "The other records will be saved in the database, and another process will send them.",
                error=str(error) or type(error).__name__,
            )
        await self.spillover.save_at_exit(STOP_TIMEOUT_S)
        await self.client.close()
        await self.record_store.close()
        await self.drain_store.close()

    async def _flush_and_leave(self) -> None:
        await self.retry_pending()
        await self.spillover.flush()
        await self.drainer.drain()
        await self.background_tasks.release_lease()
        if not self.pending.reservations:
            await self.client.command_slow("DEL", heartbeat_key(self.process_id))

    def now(self) -> float:
        return self.client.now()

    def unsent_records(self) -> int:
        return self.pending.unsent_count()

    def degraded(self) -> tuple[str, ...]:
        return (REDIS,) if self.background_tasks.is_redis_down else ()

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        try:
            return await self.reserve_or_admit(request)
        except (AdmissionDenied, LedgerUnavailable):
            self.pending.note_denial(request)
            raise

    async def reserve_or_admit(self, request: ReserveRequest) -> ReservationGrant:
        """Reserve in Redis. If Redis is down, admit the request locally if the policy allows it."""
        try:
            return await self._reserve_in_redis(request)
        except asyncio.CancelledError:
            self.cancel(request)
            raise
        except RedisUnavailable as error:
            grant = self._admit_locally(request, error)
        except DatabaseErrors as error:
            raise LedgerUnavailable(str(error) or type(error).__name__, component=DATABASE) from error
        try:
            await self.spillover.save_estimate(self.pending.reservations[request.id])
        except asyncio.CancelledError:
            self._undo_local_admission(request)
            raise
        return grant

    async def _reserve_in_redis(self, request: ReserveRequest) -> ReservationGrant:
        budgets = request.budgets
        for _ in range(MAX_ATTEMPTS):
            epoch = await self._epoch_for_request(request)
            failpoint("reserve.before")
            reply = await self.client.run_fast(
                RESERVE,
                request.project_id,
                *reserve_codec.encode_args(request, budgets, epoch, self.process_id),
            )
            failpoint("reserve.after")
            match reply:
                case [b"ok", amount, shadow, *numbers]:
                    grant = reserve_codec.decode_reservation(request, amount, shadow, numbers)
                    self.pending.reservations[request.id] = OpenReservation(request, grant.amount, epoch)
                    return grant
                case [b"rate", index, kind, retry_us, *numbers]:
                    raise reserve_codec.decode_rate_limit_exceeded(request, index, kind, retry_us, numbers)
                case [b"budget", index, remaining, *numbers]:
                    raise reserve_codec.decode_budget_exceeded(request, index, remaining, numbers)
                case [b"missing", *indexes]:
                    budgets = await self.open_windows(request, [budgets[index] for index in indexes], epoch)
                case [b"epoch"]:
                    self.epochs.by_project.pop(request.project_id, None)
                case [b"rebuilding", microseconds] if (
                    microseconds / 1e6 > REBUILD_GRACE_S - NEW_PROJECT_WAIT_S
                ):
                    await asyncio.sleep(NEW_PROJECT_WAIT_S / MAX_ATTEMPTS)
                case [b"rebuilding", microseconds] if reserve_codec.has_hard_budget(budgets):
                    raise LedgerUnavailable(f"budgets are being rebuilt: {microseconds / 1e6:.1f} s left")
                case [b"rebuilding", _]:
                    budgets = ()
                case _:
                    raise LedgerUnavailable("the reservation was cancelled")
        raise LedgerUnavailable(f"no reservation after {MAX_ATTEMPTS} attempts")

    async def extend(
        self, reservation: ReservationGrant, amount: int, budgets: tuple[BudgetLimit, ...]
    ) -> ReservationGrant | None:
        open_reservation = self.pending.reservations.get(reservation.id)
        if open_reservation is None or reservation.amount + amount > MAX_RESERVATION_NANO:
            return None
        failpoint("extend.before")
        try:
            reply = await self.client.run_fast(
                EXTEND,
                open_reservation.request.project_id,
                *reserve_codec.encode_extend_args(open_reservation.request, amount, budgets),
            )
        except RedisUnavailable:
            # Redis may have extended the reservation nevertheless. This does no harm, because the settlement
            # releases the amount that Redis has stored.
            return None
        failpoint("extend.after")
        if reply != [b"ok"]:
            return None
        open_reservation.amount = reservation.amount + amount
        return replace(reservation, amount=open_reservation.amount)

    async def _epoch_for_request(self, request: ReserveRequest) -> str:
        """Return the epoch of the project.

        The result is empty if the epoch is not known because SQL is down, and the request has no hard budget.
        The reservation then does not check the epoch.
        """
        epoch = self.epochs.by_project.get(request.project_id)
        if epoch is not None:
            return epoch
        self.client.breaker.raise_if_open(is_probe=False)
        try:
            return await self.epochs.epoch_for_request(request.project_id)
        except CommandRejected:
            raise
        except RedisUnavailable:
            self.client.breaker.record_failure()
            raise
        except DatabaseErrors:
            if reserve_codec.has_hard_budget(request.budgets):
                raise
            return ""

    async def open_windows(
        self, request: ReserveRequest, missing: list[BudgetLimit], epoch: str
    ) -> tuple[BudgetLimit, ...]:
        """Open the missing windows. Return the budgets with which to reserve.

        If SQL is down and the request has no hard budget, the request reserves without its budgets. This
        loses nothing, because a window that is opened later counts all open reservations.
        """
        try:
            for budget in missing:
                await self.window_opener.open(budget, request, epoch)
        except DatabaseErrors:
            if reserve_codec.has_hard_budget(request.budgets):
                raise
            return ()
        return request.budgets

    def _admit_locally(self, request: ReserveRequest, error: RedisUnavailable) -> ReservationGrant:
        """Admit a request without Redis if the policy, and the rate limits of this process, allow it."""
        is_allowed = (
            self.policy.allow_budgeted
            if reserve_codec.has_hard_budget(request.budgets)
            else self.policy.allow_limited or not request.rate_limits
        )
        try:
            if not is_allowed:
                raise LedgerUnavailable(str(error), component=REDIS) from error
            rate_limit_status = self.rate_limiter.acquire(request)
        except (LedgerUnavailable, AdmissionDenied):
            if not isinstance(error, CommandNotSent):
                self.cancel_unconfirmed(request)
            raise
        request.estimate.unchecked = True
        self.pending.reservations[request.id] = OpenReservation(request, request.max_nano, "")
        return ReservationGrant(request.id, request.max_nano, rate_limit_status)

    def _undo_local_admission(self, request: ReserveRequest) -> None:
        self.pending.reservations.pop(request.id, None)
        self.rate_limiter.release(request.id, 0)
        self.cancel(request)

    def cancel(self, request: ReserveRequest) -> None:
        """Settle a reservation whose caller was cancelled and therefore cannot release it.

        If Redis executes the reservation after the settlement, it finds the dedup marker and rejects it.
        """
        self.spawn(
            self.outbox_writer.write(
                PendingRecord(request.cancelled_record(), must_be_written=bool(request.budgets))
            )
        )

    def cancel_unconfirmed(self, request: ReserveRequest) -> None:
        """Cancel a reservation that Redis may have made, or may still make, for a denied request.

        The gateway has denied the request because Redis did not reply.
        """
        self.pending.pending_cancellations[request.id] = request.project_id

    async def rate_limit_status(self, project_id: int, rate_limits: tuple[RateLimit, ...]) -> RateLimitStatus:
        if not rate_limits:
            return NO_LIMITS
        try:
            return reserve_codec.decode_rate_status(
                rate_limits,
                await self.client.run_fast(
                    RATE_STATUS, project_id, *reserve_codec.rate_limit_args(rate_limits)
                ),
            )
        except RedisUnavailable as error:
            raise LedgerUnavailable(str(error), component=REDIS) from error

    async def settle(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        self.rate_limiter.release(reservation.id, entry.tokens.prompt + entry.tokens.output)
        open_reservation = self.pending.reservations.pop(reservation.id, None)
        entry.reserved_nano = reservation.amount
        if open_reservation is None:
            # The request was settled before, and its dedup marker in Redis may have expired.
            await self.outbox_writer.write(PendingRecord(entry, never_sent=False, must_be_written=True))
            return
        entry.unchecked = open_reservation.request.estimate.unchecked
        await self.outbox_writer.write(
            PendingRecord(
                entry, epoch=open_reservation.epoch, must_be_written=bool(open_reservation.request.budgets)
            )
        )

    async def release(self, reservation: ReservationGrant, entry: UsageEntry) -> None:
        entry.cost_nano = 0
        await self.settle(reservation, entry)

    async def defer(self, reservation: ReservationGrant) -> None:
        self.rate_limiter.release(reservation.id, None)
        if open_reservation := self.pending.reservations.pop(reservation.id, None):
            self.pending.pending_deferrals[reservation.id] = open_reservation.request.project_id
            self.spillover.finish([reservation.id])
        failpoint("defer.before")
        with suppress(RedisUnavailable):
            await end_reservations(self.client, self.pending)

    async def acquire_lease(self) -> bool:
        try:
            return await self.background_tasks.acquire_lease()
        except RedisUnavailable as error:
            raise LedgerUnavailable(str(error), component=REDIS) from error

    async def record(self, entry: UsageEntry) -> None:
        must_be_written = self.pending.was_denied(entry.id) or entry.cost_nano != 0
        await self.outbox_writer.write(
            PendingRecord(entry, ends_reservation=entry.cost_nano != 0, must_be_written=must_be_written)
        )

    async def tick(self) -> None:
        self.rate_limiter.drop_idle()
        if self.times_connected != self.client.fast.times_connected:
            self.times_connected = self.client.fast.times_connected
            # Redis may have restarted and lost its last writes. Restore all projects. Data that Redis still
            # has is not changed.
            self.epochs.by_project.clear()
        drained = await self.epochs.refresh_all(self.pending.project_ids())
        self.spillover.finish(self.pending.drop_drained(drained))

    async def spill(self) -> None:
        """Save this process's records and estimates in PostgreSQL while Redis is down."""
        if self.background_tasks.is_redis_down:
            self.spillover.add_process_state()
        await self.spillover.flush()

    async def retry_pending(self) -> None:
        await end_reservations(self.client, self.pending)
        await self.outbox_writer.retry_pending()

    async def restore_project(self, project_id: int, epoch: str) -> None:
        """Restore data of a project that Redis may have lost: open reservations and accepted records."""
        for open_reservation in self.pending.reservations_of(project_id):
            if open_reservation.request.id in self.pending.reservations:
                await self.client.run_slow(
                    RESTORE,
                    project_id,
                    *reserve_codec.encode_restore_args(
                        open_reservation.request, open_reservation.amount, self.process_id
                    ),
                )
                open_reservation.epoch = epoch
        for record in self.pending.records_of(project_id):
            if record.stream_id is not None and not record.in_progress:
                record.stream_id = None
                await self.outbox_writer.write(record)

    def spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self.spawned_tasks.add(task)
        task.add_done_callback(self.spawned_tasks.discard)

"""The ledger on Redis: one script to reserve and one to settle, in any number of processes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
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
from billing.ledger.redis.client.scripts import CANCEL, RATE_STATUS, RESERVE, RESTORE
from billing.ledger.redis.epochs import REBUILD_GRACE_S, EpochTracker
from billing.ledger.redis.outbox.drainer import Drainer
from billing.ledger.redis.outbox.pending import OpenReservation, PendingRecord, PendingState
from billing.ledger.redis.outbox.spillover import Spillover
from billing.ledger.redis.outbox.writer import DEDUP_TTL_S, OutboxWriter
from billing.ledger.redis.reaper import Reaper
from billing.ledger.redis.record_store import RecordStore, Waiting
from billing.ledger.redis.windows import WindowOpener
from billing.ledger.sql.connection import DatabaseErrors, LedgerConnection, connect
from billing.ledger.usage_entry import UsageEntry, encode_entry
from projects.ids import uuid7

MAX_ATTEMPTS = 10
"""An epoch may have to be learnt and windows opened, before a reservation is made."""
TAKE_OVER_S = 1.0
"""How long a new process tries, beyond the time that it takes, to bring to Redis what waits in SQL."""
STOP_TIMEOUT_S = 5.0
NEW_PROJECT_WAIT_S = 0.3
"""How long a new project may be taken for a lost one, because another process is just about to find out in SQL."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """What happens while Redis does not answer, or not within `timeout_s`.

    A request that only limits apply to is admitted by this process's own count (`allow_limited`); one with a hard budget is
    refused, unless `allow_budgeted`.
    """

    timeout_s: float = 0.05
    allow_limited: bool = True
    allow_budgeted: bool = False


DEFAULT_POLICY = OutagePolicy()


class RedisLedger:
    """One of several, each in a process with an event loop of its own."""

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
        """Waits until every project that Redis may have lost can be rebuilt. What dead processes held is resolved later, by whoever
        has seen Redis for long enough to tell.
        """
        await self.client.open()
        self.times_connected = self.client.fast.times_connected
        await self.warn_if_no_aof()
        await self.background_tasks.send_heartbeat()
        await self.background_tasks.tick()
        infos = await asyncio.gather(
            *map(self.epochs.ensure_epoch, await self.record_store.registered_projects())
        )
        await asyncio.sleep(max((state.opens_in_s for state in infos), default=0.0))
        await self.take_over()
        self.background_tasks.start()
        return 0

    async def take_over(self) -> None:
        """Count what was spent while Redis was away, before the first request is admitted."""
        for _ in range(MAX_ATTEMPTS):
            with suppress(RedisUnavailable):
                await self.reaper.settle_unsent()
                return
            await asyncio.sleep(TAKE_OVER_S / MAX_ATTEMPTS)
        log.warning("records that wait in the database are brought to redis later")

    async def warn_if_no_aof(self) -> None:
        with suppress(RedisUnavailable):  # some hosts forbid CONFIG
            if await self.client.command_slow("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]:
                log.warning(
                    "redis keeps no append-only file: after a crash, budgets are closed until they are rebuilt from the database"
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
            # Whatever it is, what is owed must still be written.
            log.warning("the ledger leaves without redis", error=str(error) or type(error).__name__)
        await self.save_unsent_records()
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

    async def save_unsent_records(self) -> None:
        """The last resort for records that Redis does not take: SQL, from where another process brings them to Redis."""
        await self.spillover.close()
        unsent = [Waiting(posting.entry, posting.owner) for posting in self.pending.unsent_records()]
        if not unsent:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.record_store.save_unsent(unsent)
        except DatabaseErrors as error:
            log.error(
                "records are lost",
                error=str(error) or type(error).__name__,
                entries=[each.entry for each in unsent],
            )

    def now(self) -> float:
        return self.client.now()

    def degraded(self) -> tuple[str, ...]:
        return (REDIS,) if self.background_tasks.is_redis_down else ()

    async def reserve(self, request: ReserveRequest) -> ReservationGrant:
        try:
            return await self.ask_or_admit(request)
        except (AdmissionDenied, LedgerUnavailable):
            self.pending.note_refusal(request)
            raise

    async def ask_or_admit(self, demand: ReserveRequest) -> ReservationGrant:
        try:
            return await self._reserve_in_redis(demand)
        except asyncio.CancelledError:
            self.cancel(demand)
            raise
        except RedisUnavailable as error:
            reservation = self._admit_locally(demand, error)
        except DatabaseErrors as error:
            raise LedgerUnavailable(str(error) or type(error).__name__, component=DATABASE) from error
        try:
            await self.spillover.keep_hold(self.pending.reservations[demand.id])
        except asyncio.CancelledError:
            self.give_up(demand)
            raise
        return reservation

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
                    reservation = reserve_codec.decode_reservation(request, amount, shadow, numbers)
                    self.pending.reservations[request.id] = OpenReservation(
                        request, reservation.amount, epoch
                    )
                    return reservation
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
                case [b"rebuilding", microseconds] if has_hard_budget(budgets):
                    raise LedgerUnavailable(f"budgets are rebuilt: {microseconds / 1e6:.1f} s left")
                case [b"rebuilding", _]:
                    budgets = ()
                case _:
                    raise LedgerUnavailable("the reservation was given up")
        raise LedgerUnavailable("the ledger's state changes too fast")

    async def _epoch_for_request(self, request: ReserveRequest) -> str:
        """Empty where it cannot be learnt and no hard budget needs it."""
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
            if has_hard_budget(request.budgets):
                raise
            return ""

    async def open_windows(
        self, request: ReserveRequest, missing: list[BudgetLimit], epoch: str
    ) -> tuple[BudgetLimit, ...]:
        """The budgets to ask with. Only hard ones are worth refusing a request for while SQL is away: a window that opens later
        takes in what is held by then.
        """
        try:
            for budget in missing:
                await self.window_opener.open(budget, request, epoch)
        except DatabaseErrors:
            if has_hard_budget(request.budgets):
                raise
            return ()
        return request.budgets

    def _admit_locally(self, request: ReserveRequest, error: RedisUnavailable) -> ReservationGrant:
        """Redis does not answer."""
        is_allowed = (
            self.policy.allow_budgeted
            if has_hard_budget(request.budgets)
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

    def give_up(self, demand: ReserveRequest) -> None:
        """Undo what this process alone has admitted."""
        self.pending.reservations.pop(demand.id, None)
        self.rate_limiter.release(demand.id, 0)
        self.cancel(demand)

    def cancel(self, request: ReserveRequest) -> None:
        """Whoever asked was cancelled: nobody else would release what it may hold. A reservation that is yet to come will be refused."""
        self.spawn(
            self.outbox_writer.write(
                PendingRecord(request.cancelled_record(), must_be_written=bool(request.budgets))
            )
        )

    def cancel_unconfirmed(self, request: ReserveRequest) -> None:
        """A refused request may have been admitted by Redis all the same, or yet be."""
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
            # It was settled before, which Redis may have forgotten.
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

    async def record(self, entry: UsageEntry) -> None:
        must_be_written = self.pending.was_refused(entry.id) or entry.cost_nano != 0
        await self.outbox_writer.write(
            PendingRecord(entry, ends_reservation=entry.cost_nano != 0, must_be_written=must_be_written)
        )

    async def tick(self) -> None:
        self.rate_limiter.drop_idle()
        if self.times_connected != self.client.fast.times_connected:
            self.times_connected = self.client.fast.times_connected
            # The end of the append-only file may be lost: what Redis still has is left as it is.
            self.epochs.by_project.clear()
        drained = await self.epochs.refresh_all(self.pending.project_ids())
        self.spillover.finish(self.pending.drop_drained(drained))

    async def spill(self) -> None:
        """While Redis is away, PostgreSQL keeps what this process would take with it."""
        if self.background_tasks.is_redis_down:
            self.spillover.remember_all()
        await self.spillover.flush()

    async def retry_pending(self) -> None:
        for id, project_id in list(self.pending.pending_cancellations.items()):
            try:
                await self.client.run_fast(CANCEL, project_id, id.hex, DEDUP_TTL_S)
            except CommandRejected as error:
                log.error(
                    "a reservation cannot be undone", project_id=project_id, id=id.hex, error=str(error)
                )
            del self.pending.pending_cancellations[id]
        await self.outbox_writer.retry_pending()

    async def restore_project(self, project_id: int, epoch: str) -> None:
        """Puts back what Redis may have lost of a project."""
        for open_reservation in self.pending.reservations_of(project_id):
            if open_reservation.request.id in self.pending.reservations:
                await self.client.run_slow(
                    RESTORE, project_id, *restore_args(open_reservation, self.process_id)
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


def has_hard_budget(budgets: tuple[BudgetLimit, ...]) -> bool:
    return any(budget.is_hard for budget in budgets)


def restore_args(open_reservation: OpenReservation, process_id: str) -> tuple[str | int | bytes, ...]:
    request = open_reservation.request
    owners = ",".join(terms.owner for terms in request.rate_limits) or "-"
    concurrent = ",".join(terms.owner for terms in request.rate_limits if terms.concurrent is not None) or "-"
    amount = min(open_reservation.amount, MAX_RESERVATION_NANO)
    day, estimate = request.estimate.day.isoformat(), encode_entry(request.estimate)
    return (
        request.id.hex,
        amount,
        process_id,
        request.key_id,
        day,
        request.tokens,
        estimate,
        owners,
        concurrent,
    )

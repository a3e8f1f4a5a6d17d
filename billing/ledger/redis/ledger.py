"""The ledger on Redis: one script to reserve and one to settle, in any number of processes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from billing.ledger.entry import Entry
from billing.ledger.failpoints import failpoint
from billing.ledger.limiter import Limiter
from billing.ledger.redis import asking
from billing.ledger.redis.books import Books, Waiting
from billing.ledger.redis.connection import NotSent, StoreUnavailable
from billing.ledger.redis.drainer import Drainer
from billing.ledger.redis.memory import Hold, Memory, Posting
from billing.ledger.redis.opening import Opener
from billing.ledger.redis.posting import MARK_S, Postman
from billing.ledger.redis.projects import GRACE_S, Projects
from billing.ledger.redis.reaper import Reaper
from billing.ledger.redis.scripts import ASSERT, RESERVE, STANDING, VOID, alive
from billing.ledger.redis.spillover import Spillover
from billing.ledger.redis.store import Rejected, Store
from billing.ledger.redis.upkeep import Upkeep
from billing.ledger.session import Connection, DatabaseErrors, connect
from billing.ledger.steps import encode_draft
from billing.ledger.terms import MOST_NANO, UNLIMITED, BudgetTerms, Demand, LedgerUnavailable, LimitTerms, Refused, Reservation, Standing
from projects.ids import uuid7

ATTEMPTS = 10
"""An epoch may have to be learnt and windows opened, before a reservation is made."""
TAKE_OVER_S = 1.0
"""How long a new process tries, beyond the time that it takes, to bring to Redis what waits in SQL."""
STOP_S = 5.0
BEGINNING_S = 0.3
"""How long a new project may be taken for a lost one, because another process is just about to find out in SQL."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Policy:
    """What happens while Redis does not answer, or not within `timeout_s`.

    A request that only limits apply to is admitted by this process's own count (`limits_open`); one with a hard budget is
    refused, unless `budgets_open`.
    """

    timeout_s: float = 0.05
    limits_open: bool = True
    budgets_open: bool = False


DEFAULTS = Policy()


class RedisLedger:
    """One of several, each in a process with an event loop of its own."""

    def __init__(self, url: str, policy: Policy = DEFAULTS, connect: Callable[[], Connection] = connect) -> None:
        self.policy = policy
        self.process = uuid7().hex
        self.store = Store(url, timeout_s=policy.timeout_s)
        self.books, self.drained_books = Books(connect()), Books(connect())
        self.limiter = Limiter()
        self.memory = Memory()
        self.projects = Projects(self.store, self.books, self.restore)
        self.opener = Opener(self.store, self.books)
        self.spillover = Spillover(self.books, self.memory, self.process, lambda project_id: self.projects.epochs.get(project_id, ""))
        self.postman = Postman(self.store, self.books, self.memory, self.spillover)
        self.drainer = Drainer(self.store, self.drained_books)
        self.reaper = Reaper(self.store, self.drained_books, self.postman)
        self.upkeep = Upkeep(self.process, self.store, self.drainer, self.reaper, self.beat, self.pay_debts, self.spill)
        self.times_connected = 0
        self.loose: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Waits until every project that Redis may have lost can be rebuilt. What dead processes held is resolved later, by whoever
        has seen Redis for long enough to tell."""
        await self.store.open()
        self.times_connected = self.store.quick.times_connected
        await self.warn_of_forgetfulness()
        await self.upkeep.show_life()
        await self.upkeep.beat()
        states = await asyncio.gather(*map(self.projects.enter, await self.books.projects()))
        await asyncio.sleep(max((state.opens_in_s for state in states), default=0.0))
        await self.take_over()
        self.upkeep.start()
        return 0

    async def take_over(self) -> None:
        """Count what was spent while Redis was away, before the first request is admitted."""
        for _ in range(ATTEMPTS):
            with suppress(StoreUnavailable):
                await self.reaper.collect()
                return
            await asyncio.sleep(TAKE_OVER_S / ATTEMPTS)
        log.warning("records that wait in the database are brought to redis later")

    async def warn_of_forgetfulness(self) -> None:
        with suppress(StoreUnavailable):  # some hosts forbid CONFIG
            if await self.store.call("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]:
                log.warning("redis keeps no append-only file: after a crash, budgets are closed until they are rebuilt from the database")

    async def stop(self) -> None:
        if self.loose:
            _, late = await asyncio.wait(self.loose, timeout=STOP_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self.upkeep.stop()
        try:
            async with asyncio.timeout(STOP_S):
                await self.leave()
        except Exception as error:
            # Whatever it is, what is owed must still be written.
            log.warning("the ledger leaves without redis", error=str(error) or type(error).__name__)
        await self.write_debts()
        await self.store.close()
        await self.books.close()
        await self.drained_books.close()

    async def leave(self) -> None:
        await self.pay_debts()
        await self.spillover.flush()
        await self.drainer.drain()
        await self.upkeep.give_lease_back()
        if not self.memory.holds:
            await self.store.call("DEL", alive(self.process))

    async def write_debts(self) -> None:
        """The last resort for records that Redis does not take: SQL, from where another process brings them to Redis."""
        await self.spillover.close()
        owed = [Waiting(posting.entry, posting.owner) for posting in self.memory.owed()]
        if not owed:
            return
        try:
            async with asyncio.timeout(STOP_S):
                await self.books.owe(owed)
        except DatabaseErrors as error:
            log.error("records are lost", error=str(error) or type(error).__name__, entries=[each.entry for each in owed])

    def now(self) -> float:
        return self.store.now()

    async def reserve(self, demand: Demand) -> Reservation:
        try:
            return await self.ask_or_admit(demand)
        except (Refused, LedgerUnavailable):
            self.memory.note_refusal(demand)
            raise

    async def ask_or_admit(self, demand: Demand) -> Reservation:
        try:
            return await self.ask(demand)
        except asyncio.CancelledError:
            self.withdraw(demand)
            raise
        except StoreUnavailable as error:
            reservation = self.admit_alone(demand, error)
        except DatabaseErrors as error:
            raise LedgerUnavailable(str(error) or type(error).__name__) from error
        try:
            await self.spillover.keep_hold(self.memory.holds[demand.id])
        except asyncio.CancelledError:
            self.give_up(demand)
            raise
        return reservation

    async def ask(self, demand: Demand) -> Reservation:
        budgets = demand.budgets
        for _ in range(ATTEMPTS):
            epoch = await self.epoch_for(demand)
            failpoint("reserve.before")
            reply = await self.store.run(RESERVE, demand.project_id, *asking.arguments(demand, budgets, epoch, self.process))
            failpoint("reserve.after")
            match reply:
                case [b"ok", amount, shadow, *numbers]:
                    reservation = asking.granted(demand, amount, shadow, numbers)
                    self.memory.holds[demand.id] = Hold(demand, reservation.amount, epoch)
                    return reservation
                case [b"rate", index, kind, retry_us, *numbers]:
                    raise asking.rate_exceeded(demand, index, kind, retry_us, numbers)
                case [b"budget", index, left, *numbers]:
                    raise asking.budget_exceeded(demand, index, left, numbers)
                case [b"missing", *indexes]:
                    budgets = await self.open_windows(demand, [budgets[index] for index in indexes], epoch)
                case [b"epoch"]:
                    self.projects.epochs.pop(demand.project_id, None)
                case [b"opening", microseconds] if microseconds / 1e6 > GRACE_S - BEGINNING_S:
                    await asyncio.sleep(BEGINNING_S / ATTEMPTS)
                case [b"opening", microseconds] if has_hard(budgets):
                    raise LedgerUnavailable(f"budgets are rebuilt: {microseconds / 1e6:.1f} s left")
                case [b"opening", _]:
                    budgets = ()
                case _:
                    raise LedgerUnavailable("the reservation was given up")
        raise LedgerUnavailable("the ledger's state changes too fast")

    async def epoch_for(self, demand: Demand) -> str:
        """Empty where it cannot be learnt and no hard budget needs it."""
        epoch = self.projects.epochs.get(demand.project_id)
        if epoch is not None:
            return epoch
        self.store.breaker.check(probe=False)
        try:
            return await self.projects.epoch(demand.project_id)
        except Rejected:
            raise
        except StoreUnavailable:
            self.store.breaker.failed()
            raise
        except DatabaseErrors:
            if has_hard(demand.budgets):
                raise
            return ""

    async def open_windows(self, demand: Demand, missing: list[BudgetTerms], epoch: str) -> tuple[BudgetTerms, ...]:
        """The budgets to ask with. Only hard ones are worth refusing a request for while SQL is away: a window that opens later
        takes in what is held by then."""
        try:
            for budget in missing:
                await self.opener.open(budget, demand, epoch)
        except DatabaseErrors:
            if has_hard(demand.budgets):
                raise
            return ()
        return demand.budgets

    def admit_alone(self, demand: Demand, error: StoreUnavailable) -> Reservation:
        """Redis does not answer."""
        is_open = self.policy.budgets_open if has_hard(demand.budgets) else self.policy.limits_open or not demand.limits
        try:
            if not is_open:
                raise LedgerUnavailable(str(error)) from error
            standing = self.limiter.enter(demand)
        except (LedgerUnavailable, Refused):
            if not isinstance(error, NotSent):
                self.void(demand)
            raise
        demand.draft.unchecked = True
        self.memory.holds[demand.id] = Hold(demand, demand.at_most, "")
        return Reservation(demand.id, demand.at_most, standing)

    def give_up(self, demand: Demand) -> None:
        """Undo what this process alone has admitted."""
        self.memory.holds.pop(demand.id, None)
        self.limiter.leave(demand.id, 0)
        self.withdraw(demand)

    def withdraw(self, demand: Demand) -> None:
        """Whoever asked was cancelled: nobody else would release what it may hold. A reservation that is yet to come will be refused."""
        self.later(self.postman.post(Posting(demand.withdrawn(), must_be_written=bool(demand.budgets))))

    def void(self, demand: Demand) -> None:
        """A refused request may have been admitted by Redis all the same, or yet be."""
        self.memory.voids[demand.id] = demand.project_id

    async def standing(self, project_id: int, limits: tuple[LimitTerms, ...]) -> Standing:
        if not limits:
            return UNLIMITED
        try:
            return asking.standing_of(limits, await self.store.run(STANDING, project_id, *asking.terms_of_limits(limits)))
        except StoreUnavailable as error:
            raise LedgerUnavailable(str(error)) from error

    async def settle(self, reservation: Reservation, entry: Entry) -> None:
        self.limiter.leave(reservation.id, entry.tokens.prompt + entry.tokens.output)
        hold = self.memory.holds.pop(reservation.id, None)
        entry.held_nano = reservation.amount
        if hold is None:
            # It was settled before, which Redis may have forgotten.
            await self.postman.post(Posting(entry, fresh=False, must_be_written=True))
            return
        entry.unchecked = hold.demand.draft.unchecked
        await self.postman.post(Posting(entry, epoch=hold.epoch, must_be_written=bool(hold.demand.budgets)))

    async def release(self, reservation: Reservation, entry: Entry) -> None:
        entry.cost_nano = 0
        await self.settle(reservation, entry)

    async def record(self, entry: Entry) -> None:
        must_be_written = self.memory.was_refused(entry.id) or entry.cost_nano != 0
        await self.postman.post(Posting(entry, settles=entry.cost_nano != 0, must_be_written=must_be_written))

    async def beat(self) -> None:
        self.limiter.forget_idle()
        if self.times_connected != self.store.quick.times_connected:
            self.times_connected = self.store.quick.times_connected
            # The end of the append-only file may be lost: what Redis still has is left as it is.
            self.projects.epochs.clear()
        drained = await self.projects.watch(self.memory.projects())
        self.spillover.finish(self.memory.forget_drained(drained))

    async def spill(self) -> None:
        """While Redis is away, PostgreSQL keeps what this process would take with it."""
        if self.upkeep.redis_is_away:
            self.spillover.remember_all()
        await self.spillover.flush()

    async def pay_debts(self) -> None:
        for id, project_id in list(self.memory.voids.items()):
            try:
                await self.store.run(VOID, project_id, id.hex, MARK_S)
            except Rejected as error:
                log.error("a reservation cannot be undone", project_id=project_id, id=id.hex, error=str(error))
            del self.memory.voids[id]
        await self.postman.post_owed()

    async def restore(self, project_id: int, epoch: str) -> None:
        """Puts back what Redis may have lost of a project."""
        for hold in self.memory.holds_of(project_id):
            if hold.demand.id in self.memory.holds:
                await self.store.run_patiently(ASSERT, project_id, *assertion(hold, self.process))
                hold.epoch = epoch
        for posting in self.memory.postings_of(project_id):
            if posting.posted is not None and not posting.busy:
                posting.posted = None
                await self.postman.post(posting)

    def later(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self.loose.add(task)
        task.add_done_callback(self.loose.discard)


def has_hard(budgets: tuple[BudgetTerms, ...]) -> bool:
    return any(budget.is_hard for budget in budgets)


def assertion(hold: Hold, process: str) -> tuple[str | int | bytes, ...]:
    demand = hold.demand
    owners = ",".join(terms.owner for terms in demand.limits) or "-"
    concurrent = ",".join(terms.owner for terms in demand.limits if terms.concurrent is not None) or "-"
    amount = min(hold.amount, MOST_NANO)
    day, draft = demand.draft.day.isoformat(), encode_draft(demand.draft)
    return demand.id.hex, amount, process, demand.key_id, day, demand.tokens, draft, owners, concurrent

"""Random histories of operations and crashes, in which the ledger must agree with a simple model."""

import asyncio
import datetime as dt
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from billing.budgets.windows import window_days, window_name
from billing.ledger import BudgetExceeded, Ledger, RateLimitExceeded, ReservationGrant, ReserveRequest
from billing.ledger.balances import window_balances
from billing.ledger.interface import BudgetLimit, RateLimit
from billing.models import Budget, Mode, Period, StreamCursor, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.support.ledger_harness import BACKENDS, TODAY, LedgerHarness, ledger_harness_on, reserve_request

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

CONCURRENT = 6
SHORT = {"sqlite": 30, "postgresql": 15, "redis": 8}
LONG = {"sqlite": 8000, "postgresql": 1000, "redis": 1000}
"""Numbers of histories. Servers get fewer because each crash costs new connections."""
AMOUNTS = st.integers(0, 50)
T = TypeVar("T")
numbers = itertools.count()


@dataclass(eq=False)
class InFlightRequest:
    """A request in the model: its reservation while it is in flight, then its cost."""

    request: ReserveRequest
    ledger: Ledger
    reservation: ReservationGrant
    day: dt.date
    cost: int | None = None
    is_orphaned: bool = False


class LedgerMachine(RuleBasedStateMachine):
    backend = BACKENDS[0]
    in_flight = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # Otherwise the ledger would register the projects of earlier histories in each later one.
        StreamCursor.objects.all().delete()
        self.harness: LedgerHarness = ledger_harness_on(self.backend)
        self.day = TODAY
        self.requests: list[InFlightRequest] = []
        self.budgets: list[Budget] = []
        self.was_wiped = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    @initialize(
        limits=st.lists(
            st.tuples(st.sampled_from(Period), st.sampled_from(Mode), st.integers(0, 300)), max_size=4
        )
    )
    def create_project(self, limits: list[tuple[Period, Mode, int]]) -> None:
        self.project = Project.objects.create_with_owner(f"Machine {next(numbers)}")
        self.key = ApiKey.objects.issue(self.project, "app")[0]
        for period, mode, limit in limits:
            self.add_budget(period, mode, limit)
        self.run(self.harness.start())

    @rule(period=st.sampled_from(Period), mode=st.sampled_from(Mode), limit=st.integers(0, 300))
    def add_budget(self, period: Period, mode: Mode, limit: int) -> None:
        if all((row.period, row.mode) != (period, mode) for row in self.budgets):
            self.budgets.append(
                Budget.objects.create(project=self.project, period=period, mode=mode, limit_nano=limit)
            )

    @rule(pick=st.integers(0, 3), limit=st.integers(0, 300))
    def change_limit(self, pick: int, limit: int) -> None:
        if self.budgets:
            row = self.budgets[pick % len(self.budgets)]
            row.limit_nano = limit
            row.save()

    @rule(days=st.sampled_from([1, 1, 1, 7, 31, -1]))
    def advance_day(self, days: int) -> None:
        self.day += dt.timedelta(days=days)

    @rule(target=in_flight, minimum=AMOUNTS, extra=AMOUNTS)
    def reserve(self, minimum: int, extra: int) -> Any:
        ledger = self.harness.running[len(self.requests) % len(self.harness.running)]
        budget_limits = [budget_limit_of(row) for row in self.budgets]
        limits = (RateLimit(f"k{self.key.pk}", concurrent=CONCURRENT),)
        request = reserve_request(
            self.key, *budget_limits, min_nano=minimum, max_nano=minimum + extra, limits=limits, day=self.day
        )
        room = min(
            (each.limit_nano - sum(self.expected_total(each)) for each in budget_limits if each.is_hard),
            default=minimum + extra,
        )
        open_count = sum(flight.cost is None for flight in self.requests)
        try:
            grant = self.run(ledger.reserve(request))
        except BudgetExceeded:
            assert room < minimum
            return multiple()
        except RateLimitExceeded:
            assert open_count >= CONCURRENT
            return multiple()
        assert room >= minimum and open_count < CONCURRENT
        assert grant.amount == min(room, minimum + extra)
        flight = InFlightRequest(request, ledger, grant, self.day)
        self.requests.append(flight)
        return flight

    @rule(flight=in_flight, amount=AMOUNTS)
    def extend(self, flight: InFlightRequest, amount: int) -> None:
        """Extend the reservation of a request that its process may have settled already."""
        if flight.ledger not in self.harness.running:
            return
        ids = {each.id for each in flight.request.budgets}
        budget_limits = tuple(budget_limit_of(row) for row in self.budgets if row.pk in ids)
        room = min(
            (
                each.limit_nano - sum(self.expected_total(each, flight.day))
                for each in budget_limits
                if each.is_hard
            ),
            default=amount,
        )
        extended = self.run(flight.ledger.extend(flight.reservation, amount, budget_limits))
        if flight.cost is not None:
            assert extended is None
        elif extended is None:
            assert room < amount or self.was_wiped, (
                "windows that were lost are opened by the next reservation"
            )
        else:
            assert room >= amount and extended.amount == flight.reservation.amount + amount
            flight.reservation = extended

    @rule(flight=in_flight, cost=st.integers(0, 120))
    def settle(self, flight: InFlightRequest, cost: int) -> None:
        """Settle a request that may already be settled, by its process or as an estimate."""
        ledger = flight.ledger
        if ledger not in self.harness.running:
            ledger = self.harness.running[0]
            self.harness.adopt(flight.ledger, ledger, flight.reservation.id)
        entry = flight.request.estimate
        if flight.cost is None or flight.is_orphaned:
            entry.cost_nano, entry.estimated = cost, False
            flight.cost, flight.is_orphaned = cost, False
        self.run(ledger.settle(flight.reservation, entry))

    @rule(flight=in_flight)
    def release(self, flight: InFlightRequest) -> None:
        if flight.cost is None and flight.ledger in self.harness.running:
            flight.cost = 0
            flight.request.estimate.estimated = False
            self.run(flight.ledger.release(flight.reservation, flight.request.estimate))

    @rule()
    def crash(self) -> None:
        dying = self.harness.running[-1]
        self.run(self.harness.kill(dying))
        self.run(self.harness.recover_dead())
        for flight in self.requests:
            if flight.cost is None and flight.ledger not in self.harness.running:
                flight.cost, flight.is_orphaned = flight.reservation.amount, True

    @rule()
    def wipe_store(self) -> None:
        self.was_wiped = True
        self.run(self.harness.wipe())

    @rule()
    def restart(self) -> None:
        if all(flight.cost is not None for flight in self.requests):
            for ledger in list(self.harness.running):
                self.run(self.harness.stop(ledger))
            self.run(self.harness.start())

    def expected_total(self, budget_limit: BudgetLimit, day: dt.date | None = None) -> tuple[int, int]:
        first, last = window_days(window_name(budget_limit.period, day or self.day))
        inside = [flight for flight in self.requests if first <= flight.day <= last]
        spent = sum(flight.cost for flight in inside if flight.cost is not None)
        return spent, sum(flight.reservation.amount for flight in inside if flight.cost is None)

    @invariant()
    def counters_are_what_the_model_says(self) -> None:
        if not self.requests:
            return
        self.run(self.harness.wait_until_written())
        found = window_balances(self.project, self.budgets, self.day)
        for row in self.budgets:
            assert (found[row.pk].spent, found[row.pk].reserved) == self.expected_total(budget_limit_of(row))

    @invariant()
    def records_are_what_the_model_says(self) -> None:
        if not self.requests:
            return
        records = UsageRecord.objects.for_project(self.project)
        ended = [flight for flight in self.requests if flight.cost is not None]
        assert records.filter(corrects=None).count() == len(ended)
        assert sum(records.values_list("cost_nano", flat=True)) == sum(flight.cost or 0 for flight in ended)

    def teardown(self) -> None:
        self.run(self.harness.close())
        self.runner.close()


def budget_limit_of(row: Budget) -> BudgetLimit:
    return BudgetLimit(row.pk, row.period, row.limit_nano, row.key_id is None, row.mode)


def run_machine(backend: str, examples: int, *, chance: bool = False) -> None:
    """Run the machine. If `chance` is true, each run has other histories."""
    machine = type("Machine", (LedgerMachine,), {"backend": backend})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # A history of thirty steps is short enough to read. Shrinking it would take minutes.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    options = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=checks,
        phases=phases,
    )
    options = settings(options, derandomize=not chance)
    run_state_machine_as_test(machine, settings=options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_ledger_matches_the_model(backend: str) -> None:
    run_machine(backend, SHORT[backend])


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_ledger_matches_the_model_in_thousands_of_histories(backend: str) -> None:
    run_machine(backend, LONG[backend], chance=True)

"""Whatever happens in whatever order, the books agree with a model that is too simple to be wrong."""

import asyncio
import datetime as dt
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule, run_state_machine_as_test

from billing.ledger import BudgetExceeded, Demand, Ledger, RateExceeded, Reservation
from billing.ledger.spending import spending
from billing.ledger.terms import BudgetTerms, LimitTerms
from billing.ledger.windows import days_of, window_name
from billing.models import Budget, Mode, Outbox, Period, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.ledgers import BACKENDS, TODAY, Books, books_on, demand

pytestmark = [pytest.mark.databases, pytest.mark.django_db(transaction=True)]

CONCURRENT = 6
SHORT = {"sqlite": 30, "postgresql": 15, "redis": 8}
LONG = {"sqlite": 8000, "postgresql": 1000, "redis": 1000}
"""Histories; a crash costs new connections to servers, which is what takes the time."""
AMOUNTS = st.integers(0, 50)
T = TypeVar("T")
numbers = itertools.count()


@dataclass(eq=False)
class Flight:
    """A request as the model knows it: what it holds until it ends, and what it cost then."""

    wanted: Demand
    owner: Ledger
    held: Reservation
    day: dt.date
    cost: int | None = None
    given_up: bool = False


class LedgerMachine(RuleBasedStateMachine):
    backend = BACKENDS[0]
    flights = Bundle("flights")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        # The projects of earlier histories would be looked after in each of these.
        Outbox.objects.all().delete()
        self.books: Books = books_on(self.backend)
        self.day = TODAY
        self.known: list[Flight] = []
        self.budgets: list[Budget] = []

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(doing)

    @initialize(limits=st.lists(st.tuples(st.sampled_from(Period), st.sampled_from(Mode), st.integers(0, 300)), max_size=4))
    def found(self, limits: list[tuple[Period, Mode, int]]) -> None:
        self.project = Project.objects.found(f"Machine {next(numbers)}")
        self.key = ApiKey.objects.mint(self.project, "app")[0]
        for period, mode, limit in limits:
            self.add_budget(period, mode, limit)
        self.run(self.books.start())

    @rule(period=st.sampled_from(Period), mode=st.sampled_from(Mode), limit=st.integers(0, 300))
    def add_budget(self, period: Period, mode: Mode, limit: int) -> None:
        if all((row.period, row.mode) != (period, mode) for row in self.budgets):
            self.budgets.append(Budget.objects.create(project=self.project, period=period, mode=mode, limit_nano=limit))

    @rule(pick=st.integers(0, 3), limit=st.integers(0, 300))
    def change_limit(self, pick: int, limit: int) -> None:
        if self.budgets:
            row = self.budgets[pick % len(self.budgets)]
            row.limit_nano = limit
            row.save()

    @rule(days=st.sampled_from([1, 1, 1, 7, 31, -1]))
    def jump(self, days: int) -> None:
        self.day += dt.timedelta(days=days)

    @rule(target=flights, least=AMOUNTS, more=AMOUNTS)
    def reserve(self, least: int, more: int) -> Any:
        ledger = self.books.open[len(self.known) % len(self.books.open)]
        terms = [terms_of(row) for row in self.budgets]
        limits = (LimitTerms(f"k{self.key.pk}", concurrent=CONCURRENT),)
        wanted = demand(self.key, *terms, at_least=least, at_most=least + more, limits=limits, day=self.day)
        room = min((each.limit_nano - sum(self.taken(each)) for each in terms if each.is_hard), default=least + more)
        under_way = sum(flight.cost is None for flight in self.known)
        try:
            held = self.run(ledger.reserve(wanted))
        except BudgetExceeded:
            assert room < least
            return multiple()
        except RateExceeded:
            assert under_way >= CONCURRENT
            return multiple()
        assert room >= least and under_way < CONCURRENT
        assert held.amount == min(room, least + more)
        flight = Flight(wanted, ledger, held, self.day)
        self.known.append(flight)
        return flight

    @rule(flight=flights, cost=st.integers(0, 120))
    def settle(self, flight: Flight, cost: int) -> None:
        """Also a second time, and also after the request was given up for an estimate."""
        ledger = flight.owner
        if ledger not in self.books.open:
            ledger = self.books.open[0]
            self.books.thaw(flight.owner, ledger, flight.held.id)
        entry = flight.wanted.draft
        if flight.cost is None or flight.given_up:
            entry.cost_nano, entry.estimated = cost, False
            flight.cost, flight.given_up = cost, False
        self.run(ledger.settle(flight.held, entry))

    @rule(flight=flights)
    def release(self, flight: Flight) -> None:
        if flight.cost is None and flight.owner in self.books.open:
            flight.cost = 0
            flight.wanted.draft.estimated = False
            self.run(flight.owner.release(flight.held, flight.wanted.draft))

    @rule()
    def crash(self) -> None:
        dying = self.books.open[-1]
        self.run(self.books.kill(dying))
        self.run(self.books.bury())
        for flight in self.known:
            if flight.cost is None and flight.owner not in self.books.open:
                flight.cost, flight.given_up = flight.held.amount, True

    @rule()
    def forget(self) -> None:
        self.run(self.books.forget())

    @rule()
    def restart(self) -> None:
        if all(flight.cost is not None for flight in self.known):
            for ledger in list(self.books.open):
                self.run(self.books.stop(ledger))
            self.run(self.books.start())

    def taken(self, terms: BudgetTerms) -> tuple[int, int]:
        first, last = days_of(window_name(terms.period, self.day))
        inside = [flight for flight in self.known if first <= flight.day <= last]
        spent = sum(flight.cost for flight in inside if flight.cost is not None)
        return spent, sum(flight.held.amount for flight in inside if flight.cost is None)

    @invariant()
    def counters_are_what_the_model_says(self) -> None:
        if not self.known:
            return
        self.run(self.books.written())
        found = spending(self.project, self.budgets, self.day)
        for row in self.budgets:
            assert (found[row.pk].spent, found[row.pk].reserved) == self.taken(terms_of(row))

    @invariant()
    def records_are_what_the_model_says(self) -> None:
        if not self.known:
            return
        records = UsageRecord.objects.for_project(self.project)
        ended = [flight for flight in self.known if flight.cost is not None]
        assert records.filter(corrects=None).count() == len(ended)
        assert records.totals().cost_nano == sum(flight.cost or 0 for flight in ended)

    def teardown(self) -> None:
        self.run(self.books.close())
        self.runner.close()


def terms_of(row: Budget) -> BudgetTerms:
    return BudgetTerms(row.pk, row.period, row.limit_nano, row.key_id is None, row.mode)


def run_machine(backend: str, examples: int, *, chance: bool = False) -> None:
    """With `chance`, other histories each time."""
    machine = type("Machine", (LedgerMachine,), {"backend": backend})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # A history of thirty steps is short enough to read; to look for a shorter one takes minutes.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    options = settings(max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=checks, phases=phases)
    options = settings(options, derandomize=not chance)
    run_state_machine_as_test(machine, settings=options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_books_agree_with_the_model(backend: str) -> None:
    run_machine(backend, SHORT[backend])


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_books_agree_with_the_model_in_thousands_of_histories(backend: str) -> None:
    run_machine(backend, LONG[backend], chance=True)

"""One request on its way from its key to its record: what is known of it so far, and how it ends."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from types import ModuleType
from uuid import UUID

import structlog

from billing import ledger
from billing.ledger import Demand, Entry, Reservation
from billing.ledger.windows import local_day
from billing.models import Outcome
from billing.money import decimal_usd
from billing.prices import Tokens
from billing.terms import budgets_of_key
from keys.authentication import Grant
from projects.ids import uuid7
from proxy import errors, metrics
from proxy.conversion import CODECS
from proxy.errors import GatewayError, rate_headers
from proxy.formats.neutral import Call, Usage
from proxy.lean import GatewayRequest, Headers, Reply
from proxy.operations import Operation
from proxy.routing import Target

MAX_REQUEST_ID = 128
OUTPUT_CAP = 4096
"""Output tokens that a client who sets no limit gets where a budget applies: no current model refuses this limit."""

log = structlog.get_logger()


class Exchange:
    def __init__(self, request: GatewayRequest, operation: Operation) -> None:
        self.request = request
        self.operation = operation
        self.started = time.perf_counter()
        self.upstream_s = 0.0
        self.first_token_at: float | None = None
        self.id: UUID = uuid7()
        self.request_id = request_id_of(request) or f"req_{self.id.hex}"
        self.entry: Entry | None = None
        self.grant: Grant | None = None
        self.target: Target | None = None
        self.reservation: Reservation | None = None
        self.granted_output: int | None = None
        self.charged = False
        self.dropped: list[str] = []
        metrics.begin(operation.dialect)

    def identify(self, grant: Grant) -> None:
        """From here on the request leaves a record."""
        now = time.time()
        self.grant = grant
        self.entry = Entry(
            id=self.id,
            project_id=grant.project_id,
            key_id=grant.key_id,
            day=local_day(now, grant.zone),
            created_at=datetime.fromtimestamp(now, UTC),
            request_id=self.request_id,
            operation=self.operation.name,
            format=self.operation.format,
        )

    def describe(self, call: Call) -> None:
        assert self.entry is not None
        self.entry.model_asked, self.entry.streamed = call.model, call.stream

    def aim(self, target: Target) -> None:
        assert self.entry is not None
        self.target = target
        self.entry.provider, self.entry.model_served, self.entry.price = target.account.slug, target.model, target.price

    async def reserve(self, call: Call, target: Target) -> None:
        """Holds the most that the request can cost; raises GatewayError where a budget or the rate does not allow it."""
        assert self.entry is not None and self.grant is not None
        budgets = await budgets_of_key.get(self.grant.key_id)
        if target.price is None and budgets:
            raise errors.unpriced(call.model)
        limit = target.default_output(call) if call.output_limit is None else call.output_limit
        at_least = at_most = 0
        if target.price is not None:
            at_most = target.price.bound(call.input_bound, OUTPUT_CAP * call.choices if limit is None else limit)
            at_least = at_most if limit is not None else target.price.bound(call.input_bound, call.choices)
        draft = self.estimate(call, at_most)
        demand = Demand(
            self.id, self.grant.project_id, self.grant.key_id, self.grant.zone, at_least, at_most, budgets, self.grant.rpm_limit, draft
        )
        self.reservation = await ledger.current().reserve(demand)
        if limit is None and budgets and target.price is not None:
            affordable = target.price.affordable_output(self.reservation.amount, call.input_bound) // call.choices
            self.granted_output = max(min(affordable, OUTPUT_CAP), 1)

    def estimate(self, call: Call, cost: int) -> Entry:
        """The record that stands if this process dies: the bound counts as spent."""
        assert self.entry is not None
        draft = copy(self.entry)
        draft.tokens, draft.cost_nano, draft.estimated = Tokens(input=call.input_bound, output=call.output_limit or 0), cost, True
        draft.outcome, draft.status_code, draft.error = Outcome.UNAVAILABLE.value, 500, "the gateway process ended"
        return draft

    def charge(self, usage: Usage, *, estimated: bool) -> int:
        """Puts what was used on the record; returns its cost in nano-USD."""
        assert self.entry is not None
        self.entry.tokens = Tokens(usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output, usage.reasoning)
        self.entry.cost_nano = self.entry.price.cost(self.entry.tokens) if self.entry.price else 0
        self.entry.estimated, self.charged = estimated, True
        return self.entry.cost_nano

    async def finish(self, outcome: Outcome, status: int, error: str = "") -> None:
        """Settles, keeps the record or counts, and writes the log line: once, at the very end of every request."""
        seconds = time.perf_counter() - self.started
        if self.entry is not None:
            entry = self.entry
            entry.outcome, entry.status_code, entry.error = outcome.value, status, error
            entry.latency_us = int(seconds * 1e6)
            if self.first_token_at is not None:
                entry.first_token_us = int((self.first_token_at - self.started) * 1e6)
            await self.keep(entry)
        self.observe(outcome, status, seconds, error)

    async def keep(self, entry: Entry) -> None:
        if self.reservation is None:
            await ledger.current().record(entry)
        elif self.charged:
            await ledger.current().settle(self.reservation, entry)
        else:
            await ledger.current().release(self.reservation, entry)

    def observe(self, outcome: Outcome, status: int, seconds: float, error: str) -> None:
        entry, target = self.entry, self.target
        model = target.model if target and target.price else "other"
        provider = target.account.provider.slug if target else ""
        metrics.count(self.operation.dialect, model, provider, outcome.value, status, seconds)
        log.info(
            "request completed successfully" if status < 400 else "request failed",
            request_id=self.request_id,
            duration_ms=round(seconds * 1000, 3),
            status_code=status,
            format=self.operation.dialect,
            model=entry.model_asked if entry else "",
            provider=entry.provider if entry else "",
            streaming=entry.streamed if entry else False,
            operation=self.operation.name,
            outcome=outcome.value,
            project=self.grant.project_slug if self.grant else None,
            key=self.grant.public_id if self.grant else None,
            input_tokens=entry.tokens.prompt if entry else 0,
            output_tokens=entry.tokens.output if entry else 0,
            cost_usd=decimal_usd(entry.cost_nano) if entry else "0",
            dropped=self.dropped or None,
            error=error or None,
        )

    @property
    def codec(self) -> ModuleType:
        return CODECS[self.operation.format]

    async def refuse(self, error: GatewayError) -> Reply:
        """The gateway's own error, in the caller's dialect."""
        await self.finish(error.outcome, error.status, error.failure.code)
        body = self.codec.render_error(error.failure, self.request_id)
        return Reply(error.status, {**self.headers(), "content-type": "application/json", **error.headers}, body)

    def headers(self) -> Headers:
        """What every answer of the gateway carries."""
        headers = {"x-request-id": self.request_id, "x-content-type-options": "nosniff"}
        if self.grant is None:
            return headers
        headers["cache-control"] = "private, no-store"
        if self.target is not None:
            headers["x-gateway-provider"], headers["x-gateway-model"] = self.target.account.slug, self.target.model
        if self.dropped:
            headers["x-gateway-dropped"] = ", ".join(self.dropped)
        if self.granted_output is not None:
            headers["x-gateway-max-tokens"] = str(self.granted_output)
        if self.reservation is not None and self.reservation.requests_left is not None:
            headers |= rate_headers(self.grant.rpm_limit or 0, self.reservation.requests_left, 60 - time.time() % 60)
        return headers

    @contextmanager
    def upstream_time(self) -> Iterator[None]:
        """Counts what passes inside as the provider's time."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.upstream_s = time.perf_counter() - begun

    @property
    def overhead_ms(self) -> str:
        """Time spent here rather than at the provider."""
        return f"{(time.perf_counter() - self.started - self.upstream_s) * 1000:.3f}"


def request_id_of(request: GatewayRequest) -> str:
    """The client's own id where it is short and printable."""
    given = request.header(b"x-request-id")
    return given if len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable() else ""

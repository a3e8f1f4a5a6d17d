"""One request on its way from its key to its record: what is known of it so far, and how it ends."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import ModuleType
from uuid import UUID
from weakref import WeakSet

import structlog

from billing import ledger
from billing.ledger import UNLIMITED, BudgetExceeded, Entry, Refused, Standing
from billing.ledger.terms import MOST_NANO
from billing.ledger.windows import local_day
from billing.models import Outcome
from billing.money import decimal_usd
from billing.prices import Tokens
from billing.terms import KeyGone, terms_of_key
from keys.authentication import Grant
from projects.ids import uuid7
from projects.redaction import contains_key, redact
from proxy import metrics
from proxy.admission import Admission, admit, standing_of
from proxy.conversion import CODECS
from proxy.errors import GatewayError, rate_headers, stopped, wrong_key
from proxy.formats.neutral import Call, Usage
from proxy.lean import GatewayRequest, Headers, Reply, outliving_cancellation
from proxy.operations import Operation
from proxy.routing import Target

MAX_REQUEST_ID = 128
WITHOUT_STANDING = (Outcome.CLIENT_CLOSED, Outcome.UNAVAILABLE)
"""How requests end whose limits nobody reads, or that cannot be known now."""

log = structlog.get_logger()

under_way: WeakSet["Exchange"] = WeakSet()
"""What has come with a good key and has not ended: `revocation.py` ends it when the key does."""


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
        self.admission: Admission | None = None
        self.standing: Standing | None = None
        self.charged = self.ended = False
        self.dropped: list[str] = []
        metrics.begin(operation.dialect)

    def identify(self, grant: Grant) -> None:
        """From here on the request leaves a record."""
        now = ledger.current().now()
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
        under_way.add(self)

    def describe(self, call: Call) -> None:
        assert self.entry is not None
        self.entry.model_asked, self.entry.streamed = redact(call.model), call.stream

    def aim(self, target: Target) -> None:
        assert self.entry is not None
        self.target = target
        self.entry.provider, self.entry.model_served = target.account.slug, redact(target.model)
        self.entry.price = target.price and target.price.served()

    async def reserve(self, call: Call, target: Target) -> None:
        """Holds the most that the request can cost; raises GatewayError where a budget or a limit does not allow it."""
        assert self.entry is not None and self.grant is not None
        try:
            terms = await terms_of_key.get(self.grant.key_id)
        except KeyGone:
            raise wrong_key() from None
        try:
            self.admission = await admit(self.entry, self.grant, terms, call, target)
        except Refused as refusal:
            self.standing = refusal.standing
            self.entry.refusing_budget_id = refusal.budget.id if isinstance(refusal, BudgetExceeded) else None
            raise
        except asyncio.CancelledError:
            self.entry = None  # The ledger keeps it.
            raise
        self.standing = self.admission.reservation.standing
        self.entry.refusing_budget_id = self.admission.reservation.shadow_budget_id

    def charge(self, usage: Usage, *, estimated: bool) -> int:
        """Puts what was used on the record, at the price of the tier that it was served in; returns its cost in nano-USD."""
        assert self.entry is not None and self.target is not None
        entry, price = self.entry, self.target.price
        entry.tokens = Tokens(usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h, usage.output, usage.reasoning)
        entry.service_tier, entry.tool_calls = redact(usage.service_tier), usage.tool_calls or None
        entry.price = price and price.served(usage.service_tier)
        entry.cost_nano = min(entry.price.cost(entry.tokens, usage.tool_calls), MOST_NANO) if entry.price else 0
        entry.estimated, self.charged = estimated, True
        return entry.cost_nano

    async def finish(self, outcome: Outcome, status: int, error: str = "") -> None:
        """Settles, keeps the record or counts, and writes the log line: once, at the very end of every request."""
        seconds = time.perf_counter() - self.started
        self.ended = True
        if self.entry is not None:
            entry = self.entry
            entry.outcome, entry.status_code, entry.error = outcome.value, status, redact(error)
            entry.latency_us = int(seconds * 1e6)
            if self.first_token_at is not None:
                entry.first_token_us = int((self.first_token_at - self.started) * 1e6)
            # The ledger completes a write whose request is cancelled; the answer that agrees with it still goes out.
            with outliving_cancellation():
                await self.keep(entry)
        under_way.discard(self)
        self.observe(outcome, status, seconds, error)
        if self.grant is not None and self.standing is None and outcome not in WITHOUT_STANDING:
            with outliving_cancellation():
                self.standing = await standing_of(self.grant)

    async def keep(self, entry: Entry) -> None:
        if self.admission is None:
            await ledger.current().record(entry)
        elif self.charged:
            await ledger.current().settle(self.admission.reservation, entry)
        else:
            await ledger.current().release(self.admission.reservation, entry)

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
    def granted_output(self) -> int | None:
        """The limit that the gateway sets on the answer's tokens."""
        return self.admission.granted_output if self.admission else None

    @property
    def output_cap(self) -> float:
        """Output tokens beyond which a stream has cost more than is held for it."""
        cap = self.admission.output_cap if self.admission else None
        return math.inf if cap is None else cap

    def charge_abandoned(self, call: Call) -> None:
        """Charges a call whose answer did not come, or that nobody waited for. A stream ends with its connection."""
        assert self.target is not None
        self.charge(Usage(input=self.target.input_estimate(call)) if call.stream else self.usage_unseen(call), estimated=True)

    def usage_unseen(self, call: Call) -> Usage:
        """What an answer in one piece may have used that is not known. A provider may write it to its end, and bill it: a hard budget,
        which must not be got around so, pays for all that was allowed."""
        assert self.target is not None and self.admission is not None
        output = 0
        if self.admission.output_cap is not None:
            granted = self.admission.granted_output
            output = (call.output_limit or 0) if granted is None else granted * call.choices
        return Usage(input=self.target.input_estimate(call), output=output)

    @property
    def codec(self) -> ModuleType:
        return CODECS[self.operation.format]

    async def refuse(self, error: GatewayError) -> Reply:
        """The gateway's own error, in the caller's dialect."""
        await self.finish(error.outcome, error.status, error.failure.code)
        return self.error_reply(error)

    async def stop(self) -> Reply:
        """Return the error of a request that the stopping server cancels, and finish the request if nothing did."""
        error = stopped()
        return self.error_reply(error) if self.ended else await self.refuse(error)

    def error_reply(self, error: GatewayError) -> Reply:
        body = self.codec.render_error(error.failure, self.request_id)
        return Reply(error.status, {**self.headers(), "content-type": "application/json", **error.headers}, body)

    def cut(self, error: GatewayError) -> None:
        """Ends the provider's call and the stream to the client, which pays for what came until now."""
        self.request.connection.end(error)

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
        return headers | rate_headers(self.standing or UNLIMITED)

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
    """The client's own id where it is short and printable, and contains no key: it is recorded and logged."""
    given = request.header(b"x-request-id")
    fits = len(given) <= MAX_REQUEST_ID and given.isascii() and given.isprintable()
    return given if fits and not contains_key(given) else ""

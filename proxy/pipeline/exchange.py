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
from billing.budgets.limits import KeyDeleted, spend_policies
from billing.budgets.windows import local_day
from billing.ledger import NO_LIMITS, AdmissionDenied, BudgetExceeded, RateLimitStatus, UsageEntry
from billing.ledger.interface import MAX_RESERVATION_NANO
from billing.models import Outcome
from billing.money import decimal_usd
from billing.pricing import Tokens
from keys.authentication import Principal
from projects.ids import uuid7
from projects.redaction import contains_key, redact
from proxy.errors import GatewayError, invalid_key, rate_limit_headers, shutting_down
from proxy.formats.neutral import RequestFacts, Usage
from proxy.http.handler import GatewayRequest, Headers, Response, outliving_cancellation
from proxy.operations import Operation
from proxy.pipeline import telemetry
from proxy.pipeline.admission import Admitted, admit, rate_limit_status
from proxy.pipeline.conversion import CODECS
from proxy.routing.resolve import Target

MAX_REQUEST_ID_LENGTH = 128
OUTCOMES_WITHOUT_RATE_LIMIT_STATUS = (Outcome.CLIENT_CLOSED, Outcome.UNAVAILABLE)
"""How requests end whose limits nobody reads, or that cannot be known now."""

log = structlog.get_logger()

in_flight: WeakSet["Exchange"] = WeakSet()
"""What has come with a good key and has not ended: `pipeline/revocation.py` ends it when the key does."""


class Exchange:
    def __init__(self, request: GatewayRequest, operation: Operation) -> None:
        self.request = request
        self.operation = operation
        self.started_at = time.perf_counter()
        self.upstream_s = 0.0
        self.first_token_at: float | None = None
        self.id: UUID = uuid7()
        self.request_id = client_request_id(request) or f"req_{self.id.hex}"
        self.usage_entry: UsageEntry | None = None
        self.principal: Principal | None = None
        self.target: Target | None = None
        self.admitted: Admitted | None = None
        self.rate_limit_status: RateLimitStatus | None = None
        self.is_charged = self.is_finished = False
        self.dropped_settings: list[str] = []
        telemetry.request_started(operation.api_family)

    def set_principal(self, principal: Principal) -> None:
        """From here on the request leaves a record."""
        now = ledger.current().now()
        self.principal = principal
        self.usage_entry = UsageEntry(
            id=self.id,
            project_id=principal.project_id,
            key_id=principal.key_id,
            day=local_day(now, principal.timezone),
            created_at=datetime.fromtimestamp(now, UTC),
            request_id=self.request_id,
            operation=self.operation.name,
            format=self.operation.format,
        )
        in_flight.add(self)

    def set_facts(self, facts: RequestFacts) -> None:
        assert self.usage_entry is not None
        self.usage_entry.requested_model, self.usage_entry.streamed = redact(facts.model), facts.stream

    def set_target(self, target: Target) -> None:
        assert self.usage_entry is not None
        self.target = target
        self.usage_entry.provider, self.usage_entry.provider_model = target.account.slug, redact(target.model)
        self.usage_entry.price = target.price and target.price.for_tier()

    async def reserve(self, facts: RequestFacts, target: Target) -> None:
        """Holds the most that the request can cost; raises GatewayError where a budget or a limit does not allow it."""
        assert self.usage_entry is not None and self.principal is not None
        try:
            terms = await spend_policies.get(self.principal.key_id)
        except KeyDeleted:
            raise invalid_key() from None
        try:
            self.admitted = await admit(self.usage_entry, self.principal, terms, facts, target)
        except AdmissionDenied as refusal:
            self.rate_limit_status = refusal.rate_limit_status
            self.usage_entry.blocking_budget_id = (
                refusal.budget.id if isinstance(refusal, BudgetExceeded) else None
            )
            raise
        except asyncio.CancelledError:
            self.usage_entry = None  # The ledger keeps it.
            raise
        self.rate_limit_status = self.admitted.reservation.rate_limit_status
        self.usage_entry.blocking_budget_id = self.admitted.reservation.shadow_budget_id

    def charge(self, usage: Usage, *, estimated: bool) -> int:
        """Puts what was used on the record, at the price of the tier that it was served in; returns its cost in nano-USD."""
        assert self.usage_entry is not None and self.target is not None
        entry, price = self.usage_entry, self.target.price
        entry.tokens = Tokens(
            usage.input,
            usage.cache_read,
            usage.cache_write_5m,
            usage.cache_write_1h,
            usage.output,
            usage.reasoning,
        )
        entry.service_tier, entry.billable_extras = redact(usage.service_tier), usage.billable_extras or None
        entry.price = price and price.for_tier(usage.service_tier)
        entry.cost_nano = (
            min(entry.price.cost(entry.tokens, usage.billable_extras), MAX_RESERVATION_NANO)
            if entry.price
            else 0
        )
        entry.estimated, self.is_charged = estimated, True
        return entry.cost_nano

    async def finish(self, outcome: Outcome, status: int, error: str = "") -> None:
        """Settles, keeps the record or counts, and writes the log line: once, at the very end of every request."""
        seconds = time.perf_counter() - self.started_at
        self.is_finished = True
        if self.usage_entry is not None:
            entry = self.usage_entry
            entry.outcome, entry.status_code, entry.error = outcome.value, status, redact(error)
            entry.latency_us = int(seconds * 1e6)
            if self.first_token_at is not None:
                entry.first_token_us = int((self.first_token_at - self.started_at) * 1e6)
            # The ledger completes a write whose request is cancelled; the answer that agrees with it still goes out.
            with outliving_cancellation():
                await self.save(entry)
        in_flight.discard(self)
        self.log_and_count(outcome, status, seconds, error)
        if (
            self.principal is not None
            and self.rate_limit_status is None
            and outcome not in OUTCOMES_WITHOUT_RATE_LIMIT_STATUS
        ):
            with outliving_cancellation():
                self.rate_limit_status = await rate_limit_status(self.principal)

    async def save(self, usage_entry: UsageEntry) -> None:
        if self.admitted is None:
            await ledger.current().record(usage_entry)
        elif self.is_charged:
            await ledger.current().settle(self.admitted.reservation, usage_entry)
        else:
            await ledger.current().release(self.admitted.reservation, usage_entry)

    def log_and_count(self, outcome: Outcome, status: int, seconds: float, error: str) -> None:
        entry, target = self.usage_entry, self.target
        model = target.model if target and target.price else "other"
        provider = target.account.provider.slug if target else ""
        telemetry.request_finished(self.operation.api_family, model, provider, outcome.value, status, seconds)
        log.info(
            "request_completed" if status < 400 else "request_failed",
            message="request completed successfully" if status < 400 else "request failed",
            request_id=self.request_id,
            duration_ms=round(seconds * 1000, 3),
            status_code=status,
            format=self.operation.api_family,
            model=entry.requested_model if entry else "",
            provider=entry.provider if entry else "",
            streaming=entry.streamed if entry else False,
            operation=self.operation.name,
            outcome=outcome.value,
            project=self.principal.project_slug if self.principal else None,
            key=self.principal.public_id if self.principal else None,
            input_tokens=entry.tokens.prompt if entry else 0,
            output_tokens=entry.tokens.output if entry else 0,
            cost_usd=decimal_usd(entry.cost_nano) if entry else "0",
            dropped=self.dropped_settings or None,
            error=error or None,
        )

    @property
    def max_tokens_to_send(self) -> int | None:
        """The limit that the gateway sets on the answer's tokens."""
        return self.admitted.max_tokens_to_send if self.admitted else None

    @property
    def abort_after_tokens(self) -> float:
        """Output tokens beyond which a stream has cost more than is held for it."""
        cap = self.admitted.abort_after_tokens if self.admitted else None
        return math.inf if cap is None else cap

    def charge_disconnected(self, facts: RequestFacts) -> None:
        """Charges a call whose answer did not come, or that nobody waited for. A stream ends with its connection."""
        assert self.target is not None
        self.charge(
            Usage(input=self.target.estimated_input_tokens(facts))
            if facts.stream
            else self.assumed_usage(facts),
            estimated=True,
        )

    def assumed_usage(self, facts: RequestFacts) -> Usage:
        """What an answer in one piece may have used that is not known. A provider may write it to its end, and bill it: a hard budget,
        which must not be got around so, pays for all that was allowed.
        """
        assert self.target is not None and self.admitted is not None
        output = 0
        if self.admitted.abort_after_tokens is not None:
            granted = self.admitted.max_tokens_to_send
            output = (facts.max_output_tokens or 0) if granted is None else granted * facts.n
        return Usage(input=self.target.estimated_input_tokens(facts), output=output)

    @property
    def codec(self) -> ModuleType:
        return CODECS[self.operation.format]

    async def render_error(self, error: GatewayError) -> Response:
        """The gateway's own error, in the caller's dialect."""
        await self.finish(error.outcome, error.status, error.api_error.code)
        return self.error_reply(error)

    async def stop(self) -> Response:
        """Return the error of a request that the stopping server cancels, and finish the request if nothing did."""
        error = shutting_down()
        return self.error_reply(error) if self.is_finished else await self.render_error(error)

    def error_reply(self, error: GatewayError) -> Response:
        body = self.codec.render_error(error.api_error, self.request_id)
        return Response(
            error.status,
            {**self.gateway_headers(), "content-type": "application/json", **error.headers},
            body,
        )

    def abort(self, error: GatewayError) -> None:
        """Ends the provider's call and the stream to the client, which pays for what came until now."""
        self.request.disconnect_watcher.abort(error)

    def gateway_headers(self) -> Headers:
        """What every answer of the gateway carries."""
        headers = {"x-request-id": self.request_id, "x-content-type-options": "nosniff"}
        if self.principal is None:
            return headers
        headers["cache-control"] = "private, no-store"
        if self.target is not None:
            headers["x-gateway-provider"], headers["x-gateway-model"] = (
                self.target.account.slug,
                self.target.model,
            )
        if self.dropped_settings:
            headers["x-gateway-dropped"] = ", ".join(self.dropped_settings)
        if self.max_tokens_to_send is not None:
            headers["x-gateway-max-tokens"] = str(self.max_tokens_to_send)
        return headers | rate_limit_headers(self.rate_limit_status or NO_LIMITS)

    @contextmanager
    def measure_upstream(self) -> Iterator[None]:
        """Counts what passes inside as the provider's time."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.upstream_s = time.perf_counter() - begun

    @property
    def overhead_ms(self) -> str:
        """Time spent here rather than at the provider."""
        return f"{(time.perf_counter() - self.started_at - self.upstream_s) * 1000:.3f}"


def client_request_id(request: GatewayRequest) -> str:
    """The client's own id where it is short and printable, and contains no key: it is recorded and logged."""
    given = request.header(b"x-request-id")
    fits = len(given) <= MAX_REQUEST_ID_LENGTH and given.isascii() and given.isprintable()
    return given if fits and not contains_key(given) else ""

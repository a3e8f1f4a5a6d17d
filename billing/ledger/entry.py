"""A usage record on its way to the database."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from billing.models import Correction, Outcome, UsageRecord
from billing.prices import Price, Tokens

NAMESPACE = UUID("5b0e7c1e-8f5a-4c53-9a53-0c2d0a6f8f11")
MOMENT_BYTES = 6
"""A UUIDv7 begins with its moment."""
encode = msgspec.json.encode


class Entry(msgspec.Struct, kw_only=True):
    """The columns of `UsageRecord`, filled in as a request goes its way. Money is nano-USD, times are microseconds."""

    id: UUID
    project_id: int
    key_id: int
    day: date
    created_at: datetime
    request_id: str
    operation: str
    format: str
    model_asked: str = ""
    model_served: str = ""
    provider: str = ""
    streamed: bool = False
    outcome: str = Outcome.OK.value
    status_code: int = 200
    error: str = ""
    tokens: Tokens = Tokens()
    cost_nano: int = 0
    price: Price | None = None
    estimated: bool = False
    latency_us: int = 0
    first_token_us: int | None = None
    held_nano: int | None = None
    service_tier: str = ""
    tool_calls: dict[str, int] | None = None
    refusing_budget_id: int | None = None
    unchecked: bool = False
    corrects: UUID | None = None
    correction: str = ""

    def corrected(self, cost_nano: int, tokens: Tokens, reason: Correction, ordinal: int = 0) -> "Entry":
        """The record that turns this one, which has been kept as it is, into one of this cost and these tokens. Its id follows
        from this one's, so that it cannot be kept twice, and sorts beside it. `ordinal` counts those for the same reason."""
        name = uuid5(NAMESPACE, f"{self.id.hex} {reason.value} {ordinal}" if ordinal else f"{self.id.hex} {reason.value}")
        return replace(
            self,
            id=UUID(bytes=self.id.bytes[:MOMENT_BYTES] + name.bytes[MOMENT_BYTES:]),
            cost_nano=cost_nano - self.cost_nano,
            tokens=tokens - self.tokens,
            held_nano=None,
            corrects=self.id,
            correction=reason.value,
        )

    def row(self) -> tuple[Any, ...]:
        """Values in the order of COLUMNS, in forms that SQLite and PostgreSQL both take."""
        tokens = self.tokens
        return tuple(map(storable, (
            self.id.hex, self.project_id, self.key_id, self.day.isoformat(), sql_time(self.created_at),
            self.request_id, self.operation, self.format,
            self.model_asked, self.model_served, self.provider, self.streamed, self.outcome, self.status_code, self.error,
            tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, tokens.output, tokens.reasoning,
            self.cost_nano, price_json(self.price), self.estimated, self.latency_us, self.first_token_us,
            self.held_nano, self.service_tier, self.tool_calls and encode(self.tool_calls).decode(), self.refusing_budget_id,
            self.unchecked, self.corrects and self.corrects.hex, self.correction,
        ), WIDTHS))  # fmt: skip


COLUMNS = (
    "id", "project_id", "key_id", "day", "created_at", "request_id", "operation", "format",
    "model_asked", "model_served", "provider", "streamed", "outcome", "status_code", "error",
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "price", "estimated", "latency_us", "first_token_us",
    "held_nano", "service_tier", "tool_calls", "refusing_budget_id", "unchecked", "corrects", "correction",
)  # fmt: skip


WIDTHS = tuple(getattr(UsageRecord._meta.get_field(name), "max_length", None) for name in COLUMNS)


def storable(value: Any, width: int | None) -> Any:
    """What PostgreSQL's text takes: no NUL, and no more than its column does. A record must not be lost over what a client or provider
    wrote."""
    return value.replace("\0", "")[:width] if isinstance(value, str) else value


_price_json: dict[Price, str] = {}


def price_json(price: Price | None) -> str | None:
    """A price as the JSON kept on each record; encoded once, since few prices serve many records."""
    if price is None:
        return None
    text = _price_json.get(price)
    if text is None:
        text = _price_json[price] = encode(price).decode()
    return text


def sql_time(moment: datetime) -> str:
    """UTC without an offset: what Django keeps in SQLite, and what PostgreSQL reads in a session whose timezone is UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

"""A usage record on its way to the database."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec

from billing.models import Outcome
from billing.prices import Price, Tokens


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

    def row(self) -> tuple[Any, ...]:
        """Values in the order of COLUMNS, in forms that SQLite and PostgreSQL both take."""
        tokens = self.tokens
        return tuple(map(storable, (
            self.id.hex, self.project_id, self.key_id, self.day.isoformat(), sql_time(self.created_at),
            self.request_id, self.operation, self.format,
            self.model_asked, self.model_served, self.provider, self.streamed, self.outcome, self.status_code, self.error,
            tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h, tokens.output, tokens.reasoning,
            self.cost_nano, price_json(self.price), self.estimated, self.latency_us, self.first_token_us,
        )))  # fmt: skip


COLUMNS = (
    "id", "project_id", "key_id", "day", "created_at", "request_id", "operation", "format",
    "model_asked", "model_served", "provider", "streamed", "outcome", "status_code", "error",
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "price", "estimated", "latency_us", "first_token_us",
)  # fmt: skip


def storable(value: Any) -> Any:
    """PostgreSQL's text cannot hold NUL; a record must not be lost over what a client or provider wrote."""
    return value.replace("\0", "") if isinstance(value, str) and "\0" in value else value


_price_json: dict[Price, str] = {}


def price_json(price: Price | None) -> str | None:
    """A price as the JSON kept on each record; encoded once, since few prices serve many records."""
    if price is None:
        return None
    text = _price_json.get(price)
    if text is None:
        text = _price_json[price] = msgspec.json.encode(price).decode()
    return text


def sql_time(moment: datetime) -> str:
    """UTC without an offset: what Django keeps in SQLite, and what PostgreSQL reads in a session whose timezone is UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

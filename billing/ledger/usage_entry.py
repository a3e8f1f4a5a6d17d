"""The usage entry: a usage record before it is in the database, with its JSON form."""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
from msgspec.structs import replace

from billing.models import CorrectionReason, Outcome, UsageRecord
from billing.pricing import Price, Tokens

CORRECTION_ID_NAMESPACE = UUID("5b0e7c1e-8f5a-4c53-9a53-0c2d0a6f8f11")
TIMESTAMP_BYTES = 6
"""The length of the timestamp at the start of a UUIDv7.

A correction has the same timestamp as its record, so that both are adjacent when sorted by id.
"""
encode_json = msgspec.json.encode


class Attempt(msgspec.Struct, kw_only=True, frozen=True):
    """A call of a target, on the record of its request.

    `provider` is the name of the account. `status` is 0 if the provider did not respond. `error` is the error
    code of a failed call. `cost_nano` is what the call added to the cost of the request.
    """

    provider: str
    model: str
    status: int = 0
    error: str = ""
    ms: int = 0
    cost_nano: int = 0


class UsageEntry(msgspec.Struct, kw_only=True):
    """The columns of `UsageRecord`, filled in while a request is processed.

    Money is nano-USD, durations are microseconds. `attempts` is None if the first call succeeded.
    """

    id: UUID
    project_id: int
    key_id: int
    day: date
    created_at: datetime
    request_id: str
    operation: str
    format: str
    requested_model: str = ""
    provider_model: str = ""
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
    reserved_nano: int | None = None
    service_tier: str = ""
    billable_extras: dict[str, int] | None = None
    blocking_budget_id: int | None = None
    attempts: list[Attempt] | None = None
    unchecked: bool = False
    saved_nano: int = 0
    corrects: UUID | None = None
    correction_reason: str = ""
    metadata: dict[str, str] | None = None

    def correction_to(
        self, cost_nano: int, tokens: Tokens, reason: CorrectionReason, ordinal: int = 0
    ) -> "UsageEntry":
        """Return a correction that changes the total cost and tokens of this record to the given values.

        The id of the correction is derived from the id of this record, so that a correction that is written
        twice is stored once. `ordinal` distinguishes several corrections with the same reason.
        """
        name = f"{self.id.hex} {reason.value}" + (f" {ordinal}" if ordinal else "")
        digest = uuid5(CORRECTION_ID_NAMESPACE, name)
        return replace(
            self,
            id=UUID(bytes=self.id.bytes[:TIMESTAMP_BYTES] + digest.bytes[TIMESTAMP_BYTES:]),
            cost_nano=cost_nano - self.cost_nano,
            tokens=tokens - self.tokens,
            reserved_nano=None,
            attempts=None,
            saved_nano=0,
            corrects=self.id,
            correction_reason=reason.value,
        )

    def as_row(self) -> tuple[Any, ...]:
        """Return the values in the order of COLUMNS, with types that SQLite and PostgreSQL both accept."""
        tokens = self.tokens
        return tuple(map(clean_text, (
            self.id.hex, self.project_id, self.key_id, self.day.isoformat(), sql_time(self.created_at),
            self.request_id, self.operation, self.format,
            self.requested_model, self.provider_model, self.provider, self.streamed,
            self.outcome, self.status_code, self.error,
            tokens.input, tokens.cache_read, tokens.cache_write_5m, tokens.cache_write_1h,
            tokens.cache_write_12h, tokens.output, tokens.reasoning,
            self.cost_nano, price_json(self.price), self.estimated, self.latency_us, self.first_token_us,
            self.reserved_nano, self.service_tier,
            self.billable_extras and encode_json(self.billable_extras).decode(),
            self.blocking_budget_id, self.attempts and encode_json(self.attempts).decode(), self.unchecked,
            self.saved_nano,
            self.corrects and self.corrects.hex, self.correction_reason,
            self.metadata and encode_json(self.metadata).decode(),
        ), MAX_LENGTHS))  # fmt: skip


COLUMNS = (
    "id", "project_id", "key_id", "day", "created_at", "request_id", "operation", "format",
    "requested_model", "provider_model", "provider", "streamed", "outcome", "status_code", "error",
    "input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "cache_write_12h_tokens", "output_tokens", "reasoning_tokens",
    "cost_nano", "price", "estimated", "latency_us", "first_token_us",
    "reserved_nano", "service_tier", "billable_extras",
    "blocking_budget_id", "attempts", "unchecked", "saved_nano", "corrects", "correction_reason", "metadata",
)  # fmt: skip


encode_entry = msgspec.json.Encoder().encode
decode_entry = msgspec.json.Decoder(UsageEntry).decode

MAX_LENGTHS = tuple(getattr(UsageRecord._meta.get_field(name), "max_length", None) for name in COLUMNS)


def clean_text(value: Any, max_length: int | None) -> Any:
    """Remove NUL characters from a text, and cut it to the width of its column.

    PostgreSQL rejects other texts, and no record may be lost because of text from a client or provider.
    """
    return value.replace("\0", "")[:max_length] if isinstance(value, str) else value


_price_json: dict[Price, str] = {}


def price_json(price: Price | None) -> str | None:
    """Encode a price as JSON. The result is cached, because many records have the same price."""
    if price is None:
        return None
    text = _price_json.get(price)
    if text is None:
        text = _price_json[price] = encode_json(price).decode()
    return text


def sql_time(value: datetime) -> str:
    """Format a time in UTC without an offset.

    This is the format in which Django stores times in SQLite. PostgreSQL reads it as UTC, because the
    timezone of the ledger's session is UTC.
    """
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")

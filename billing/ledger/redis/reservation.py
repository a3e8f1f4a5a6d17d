"""Parses the text of open reservations in Redis, which `lua/common.lua` writes."""

from dataclasses import dataclass
from datetime import date
from uuid import UUID

from billing.ledger.usage_entry import UsageEntry, decode_entry


@dataclass(frozen=True, slots=True)
class RedisReservation:
    """An open reservation of a process.

    `windows` are the budget windows in which `amount` (nano-USD) counts as reserved, as (budget id, name).
    `shadow_budget_id` is the shadow budget that would have denied the request, or None.
    `estimate` is the record (JSON) that is written if the process dies.
    """

    id: UUID
    amount: int
    process_id: str
    key_id: int
    day: date
    shadow_budget_id: int | None
    windows: tuple[tuple[int, str], ...]
    estimate: bytes

    @classmethod
    def parse(cls, id: bytes, text: bytes) -> "RedisReservation":
        """Parse a field of the hash `open`. Raises ValueError if it is damaged."""
        head, _, estimate = text.partition(b"\n")
        amount, process_id, key_id, day, _since, _tokens, shadow, names, _owners = head.decode().split(" ")
        windows = (name.partition("/") for name in names.split(",") if name != "-")
        return cls(
            id=UUID(id.decode()),
            amount=int(amount),
            process_id=process_id,
            key_id=int(key_id),
            day=date.fromisoformat(day),
            shadow_budget_id=int(shadow) or None,
            windows=tuple((int(budget_id), name) for budget_id, _, name in windows),
            estimate=estimate,
        )

    def as_estimate(self) -> UsageEntry:
        """Return the record that charges the whole amount. Raises msgspec.MsgspecError if it is damaged.

        The amount is charged in full because it is not known whether a provider was called.
        """
        entry = decode_entry(self.estimate)
        entry.cost_nano = entry.reserved_nano = self.amount
        entry.estimated, entry.blocking_budget_id = True, self.shadow_budget_id
        return entry

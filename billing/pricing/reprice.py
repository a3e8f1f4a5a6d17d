"""Recompute the cost of past requests with the prices that are now stored for their time.

Records are not changed. If a cost differs, a correction with the difference is added.
"""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Sum
from msgspec.structs import replace

from billing.ledger.corrections import lock_budget_windows, save_corrections
from billing.ledger.usage_entry import UsageEntry
from billing.models import ArchivedUsage, CorrectionReason, Outcome, UsageRecord
from billing.pricing import Price, Tokens
from projects.models import Project

BATCH_SIZE = 500
"""Maximum number of records in a transaction, during which an SQL ledger cannot settle requests."""
UNBILLED_OUTCOMES = (
    Outcome.CACHED,
    Outcome.UNAUTHENTICATED,
    Outcome.FORBIDDEN,
    Outcome.BUDGET_EXCEEDED,
    Outcome.RATE_LIMITED,
    Outcome.INVALID_REQUEST,
)
"""The outcomes of requests that were not sent to a provider, and therefore have no cost."""

PriceLookup = Callable[[str, str, dt.datetime], Price | None]
"""A function of a record's provider and model, and of a time. It returns None if no price is known."""


@dataclass(slots=True)
class RepriceSummary:
    """Counts of the records that were checked and corrected. Money is nano-USD.

    `newly_priced` is the number of corrected records that had no price before. `unpriced` is the number of
    records that still have no known price. `deleted` is the number of requests whose records were deleted
    because of their age, and which keep their cost. `left_at_reserved` is the number of records that keep
    their reserved amount as cost, because their usage is not known.
    """

    records: int = 0
    corrected: int = 0
    newly_priced: int = 0
    unpriced: int = 0
    deleted: int = 0
    left_at_reserved: int = 0
    cost_change_nano: int = 0

    def add_correction(self, correction: UsageEntry, *, was_unpriced: bool) -> None:
        self.corrected += 1
        self.newly_priced += was_unpriced
        self.cost_change_nano += correction.cost_nano


@dataclass(slots=True)
class CorrectedRecord:
    """A record with its corrections."""

    record: UsageEntry
    corrections: list[UsageEntry] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        return sum((correction.tokens for correction in self.corrections), self.record.tokens)

    @property
    def cost_nano(self) -> int:
        return self.record.cost_nano + sum(correction.cost_nano for correction in self.corrections)

    @property
    def has_usage(self) -> bool:
        return bool(self.cost_nano) or self.tokens != Tokens()

    @property
    def billing_record(self) -> UsageEntry:
        """The entry whose service tier and extras are billed.

        If there is a late correction, the entry is that correction, because it has the reported usage, while
        the record only has an estimate.
        """
        late = CorrectionReason.LATE.value
        return next((entry for entry in self.corrections if entry.correction_reason == late), self.record)

    @property
    def prices(self) -> list[Price]:
        return [entry.price for entry in (self.record, *self.corrections) if entry.price is not None]

    @property
    def has_computed_cost(self) -> bool:
        """Return whether the cost was computed from tokens. Otherwise it is a reserved amount."""
        costs = [price.cost(self.tokens, self.billing_record.billable_extras) for price in self.prices] or [0]
        return self.cost_nano in costs

    def correction_for(self, price: Price) -> UsageEntry | None:
        """Return the correction that changes the cost to the cost at `price`; None if both are equal."""
        tier_price = price.for_tier(self.billing_record.service_tier)
        cost = tier_price.cost(self.tokens, self.billing_record.billable_extras)
        if cost == self.cost_nano and self.prices:
            return None
        repriced = CorrectionReason.REPRICED.value
        ordinal = sum(correction.correction_reason == repriced for correction in self.corrections)
        current = replace(self.record, cost_nano=self.cost_nano, tokens=self.tokens, price=tier_price)
        return current.correction_to(cost, self.tokens, CorrectionReason.REPRICED, ordinal)


class Repricer:
    """Reprices the records of one project."""

    def __init__(self, project: Project, price_at: PriceLookup) -> None:
        self.project = project
        self.price_at = price_at

    def run(self, first: dt.date, last: dt.date, model: str = "", *, dry_run: bool = False) -> RepriceSummary:
        """Reprice the days from `first` to `last` (inclusive), in the project's timezone.

        A dry run only counts the corrections. Raises LedgerUnavailable.
        """
        summary = RepriceSummary(deleted=self.count_deleted(first, last))
        for ids in self.batches(first, last, model):
            with lock_budget_windows():
                corrections = list(self.corrections(ids, summary))
                if corrections and not dry_run:
                    save_corrections(corrections)
        return summary

    def count_deleted(self, first: dt.date, last: dt.date) -> int:
        archived = ArchivedUsage.objects.filter(project=self.project, day__range=(first, last))
        count: int = archived.aggregate(requests=Sum("requests", default=0))["requests"]
        return count

    def batches(self, first: dt.date, last: dt.date, model: str) -> Iterator[Sequence[UUID]]:
        """Yield batches of ids of the records that may be repriced, in ascending order."""
        records = UsageRecord.objects.for_project(self.project).requests()
        records = records.filter(day__range=(first, last)).exclude(outcome__in=UNBILLED_OUTCOMES)
        if model:
            records = records.filter(provider_model=model)
        ids = records.order_by("id").values_list("pk", flat=True)
        batch = list(ids[:BATCH_SIZE])
        while batch:
            yield batch
            batch = list(ids.filter(pk__gt=batch[-1])[:BATCH_SIZE])

    def corrections(self, ids: Sequence[UUID], summary: RepriceSummary) -> Iterator[UsageEntry]:
        for corrected in load_corrected_records(ids):
            if corrected.has_usage and (correction := self.reprice(corrected, summary)):
                summary.add_correction(correction, was_unpriced=not corrected.prices)
                yield correction

    def reprice(self, corrected: CorrectedRecord, summary: RepriceSummary) -> UsageEntry | None:
        """Return the correction that a record needs, or None. Count records that cannot be repriced."""
        record = corrected.record
        price = self.price_at(record.provider, record.provider_model, record.created_at)
        summary.records += 1
        summary.unpriced += price is None
        summary.left_at_reserved += not corrected.has_computed_cost
        if price is None or not corrected.has_computed_cost:
            return None
        return corrected.correction_for(price)


def load_corrected_records(ids: Sequence[UUID]) -> list[CorrectedRecord]:
    corrections: defaultdict[UUID, list[UsageEntry]] = defaultdict(list)
    for row in UsageRecord.objects.filter(corrects__in=ids):
        corrections[row.corrects].append(entry_from_record(row))  # type: ignore[index]
    return [
        CorrectedRecord(entry_from_record(row), corrections[row.pk])
        for row in UsageRecord.objects.filter(pk__in=ids).order_by("pk")
    ]


NOT_COLUMNS = ("tokens", "price", "attempts")
"""Fields of an entry that are converted, or that a correction does not have."""


def entry_from_record(row: UsageRecord) -> UsageEntry:
    """Convert a stored record to a usage entry."""
    names = [name for name in UsageEntry.__struct_fields__ if name not in NOT_COLUMNS]
    return UsageEntry(
        **{name: getattr(row, name) for name in names}, tokens=row.tokens, price=row.applied_price
    )

"""What records would cost at the prices that hold for their moments by now. Records stay as they are: corrections are added."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from msgspec.structs import replace

from billing.ledger.corrections import lock_budget_windows, save_corrections
from billing.ledger.usage_entry import UsageEntry
from billing.models import CorrectionReason, Outcome, UsageRecord
from billing.pricing import Price, Tokens, price_list
from projects.models import Project
from proxy.models import Credential
from proxy.providers import demo
from proxy.providers.catalog import DEMO, PROVIDERS

BATCH_SIZE = 500
"""Records in one transaction: the gateway waits for its end."""
UNBILLED_OUTCOMES = (
    Outcome.CACHED,
    Outcome.UNAUTHENTICATED,
    Outcome.FORBIDDEN,
    Outcome.BUDGET_EXCEEDED,
    Outcome.RATE_LIMITED,
    Outcome.INVALID_REQUEST,
)
"""Outcomes of requests that no provider has seen."""


@dataclass(slots=True)
class RepriceSummary:
    """What has been done. `unpriced`: records whose price nobody knows even now; `left_at_reserved`: those of which it is not known what was
    used, so that they go on counting as what was held for them.
    """

    records: int = 0
    corrected: int = 0
    newly_priced: int = 0
    unpriced: int = 0
    left_at_reserved: int = 0
    cost_change_nano: int = 0

    def add(self, correction: UsageEntry, *, was_unpriced: bool) -> None:
        self.corrected += 1
        self.newly_priced += was_unpriced
        self.cost_change_nano += correction.cost_nano


@dataclass(slots=True)
class CorrectedRecord:
    """A record with its corrections so far."""

    record: UsageEntry
    corrections: list[UsageEntry] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        return sum((correction.tokens for correction in self.corrections), self.record.tokens)

    @property
    def cost_nano(self) -> int:
        return self.record.cost_nano + sum(correction.cost_nano for correction in self.corrections)

    @property
    def billing_record(self) -> UsageEntry:
        """The one that says which tier and tools were used: a late settlement knows better than the estimate that it corrects."""
        return next(
            (entry for entry in self.corrections if entry.correction_reason == CorrectionReason.LATE.value),
            self.record,
        )

    @property
    def prices(self) -> list[Price]:
        return [entry.price for entry in (self.record, *self.corrections) if entry.price is not None]

    @property
    def has_computed_cost(self) -> bool:
        """Whether its cost is that of its tokens, and not what was held for it."""
        costs = [price.cost(self.tokens, self.billing_record.billable_extras) for price in self.prices] or [0]
        return self.cost_nano in costs

    def correction_for(self, price: Price) -> UsageEntry | None:
        """The correction that brings it to this price; None where it has that already."""
        tier_price = price.for_tier(self.billing_record.service_tier)
        cost = tier_price.cost(self.tokens, self.billing_record.billable_extras)
        if cost == self.cost_nano and self.prices:
            return None
        ordinal = sum(
            correction.correction_reason == CorrectionReason.REPRICED.value for correction in self.corrections
        )
        current = replace(self.record, cost_nano=self.cost_nano, tokens=self.tokens, price=tier_price)
        return current.correction_to(cost, self.tokens, CorrectionReason.REPRICED, ordinal)


class Repricer:
    """Of one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.price_list = price_list.load_price_list(project.pk)
        self.providers = dict(Credential.objects.for_project(project).values_list("slug", "provider"))

    def price(self, usage_entry: UsageEntry, at: dt.datetime | None = None) -> Price | None:
        """What its model costs at a moment (default: the record's)."""
        if usage_entry.provider == DEMO:
            return demo.PRICE
        slug = self.providers.get(usage_entry.provider, usage_entry.provider)
        prices_id = PROVIDERS[slug].pricing_provider if slug in PROVIDERS else ""
        return self.price_list.find(
            (usage_entry.provider, slug), prices_id, usage_entry.provider_model, at or usage_entry.created_at
        )

    def run(self, first: dt.date, last: dt.date, model: str = "", *, keep: bool = True) -> RepriceSummary:
        """Days in the project's timezone, both included. Without `keep`, nothing is written."""
        summary = RepriceSummary()
        for ids in self.batches(first, last, model):
            with lock_budget_windows():
                corrections = list(self.corrections(ids, summary))
                if keep and corrections:
                    save_corrections(corrections)
        return summary

    def batches(self, first: dt.date, last: dt.date, model: str) -> Iterator[Sequence[UUID]]:
        records = UsageRecord.objects.for_project(self.project).filter(
            corrects=None, day__range=(first, last)
        )
        records = records.exclude(outcome__in=UNBILLED_OUTCOMES).order_by("id")
        if model:
            records = records.filter(provider_model=model)
        seen = list(records.values_list("pk", flat=True)[:BATCH_SIZE])
        while seen:
            yield seen
            seen = list(records.filter(pk__gt=seen[-1]).values_list("pk", flat=True)[:BATCH_SIZE])

    def corrections(self, ids: Sequence[UUID], summary: RepriceSummary) -> Iterator[UsageEntry]:
        for corrected in load_corrected_records(ids):
            if not (corrected.cost_nano or corrected.tokens != Tokens()):
                continue
            summary.records += 1
            price = self.price(corrected.record)
            summary.unpriced += price is None
            summary.left_at_reserved += not corrected.has_computed_cost
            if (
                price is not None
                and corrected.has_computed_cost
                and (correction := corrected.correction_for(price))
            ):
                summary.add(correction, was_unpriced=not corrected.prices)
                yield correction


def load_corrected_records(ids: Sequence[UUID]) -> list[CorrectedRecord]:
    corrections: defaultdict[UUID, list[UsageEntry]] = defaultdict(list)
    for row in UsageRecord.objects.filter(corrects__in=ids):
        corrections[row.corrects].append(entry_from_record(row))  # type: ignore[index]
    return [
        CorrectedRecord(entry_from_record(row), corrections[row.pk])
        for row in UsageRecord.objects.filter(pk__in=ids).order_by("pk")
    ]


def entry_from_record(row: UsageRecord) -> UsageEntry:
    """A record as the ledger writes it."""
    names = [name for name in UsageEntry.__struct_fields__ if name not in ("tokens", "price")]
    return UsageEntry(
        **{name: getattr(row, name) for name in names}, tokens=row.tokens, price=row.applied_price
    )

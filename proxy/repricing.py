"""What records would cost at the prices that hold for their moments by now. Records stay as they are: corrections are added."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from msgspec.structs import replace

from billing import pricelist
from billing.ledger.adjust import books_closed, keep_corrections
from billing.ledger.entry import Entry
from billing.models import Correction, Outcome, UsageRecord
from billing.prices import Price, Tokens
from projects.models import Project
from proxy.models import Credential
from proxy.providers import DEMO, PROVIDERS, demo

BATCH = 500
"""Records in one transaction: the gateway waits for its end."""
CHARGED_NOTHING = (Outcome.CACHED, Outcome.AUTH, Outcome.SCOPE, Outcome.BUDGET, Outcome.RATE, Outcome.INVALID)
"""Outcomes of requests that no provider has seen."""


@dataclass(slots=True)
class Summary:
    """What has been done. `unpriced`: records whose price nobody knows even now; `held`: those of which it is not known what was
    used, so that they go on counting as what was held for them."""

    records: int = 0
    corrected: int = 0
    newly_priced: int = 0
    unpriced: int = 0
    held: int = 0
    difference_nano: int = 0

    def add(self, correction: Entry, *, was_unpriced: bool) -> None:
        self.corrected += 1
        self.newly_priced += was_unpriced
        self.difference_nano += correction.cost_nano


@dataclass(slots=True)
class Standing:
    """A record with its corrections so far."""

    record: Entry
    corrections: list[Entry] = field(default_factory=list)

    @property
    def tokens(self) -> Tokens:
        return sum((correction.tokens for correction in self.corrections), self.record.tokens)

    @property
    def cost_nano(self) -> int:
        return self.record.cost_nano + sum(correction.cost_nano for correction in self.corrections)

    @property
    def used(self) -> Entry:
        """The one that says which tier and tools were used: a late settlement knows better than the estimate that it corrects."""
        return next((entry for entry in self.corrections if entry.correction == Correction.LATE.value), self.record)

    @property
    def prices(self) -> list[Price]:
        return [entry.price for entry in (self.record, *self.corrections) if entry.price is not None]

    @property
    def follows_a_price(self) -> bool:
        """Whether its cost is that of its tokens, and not what was held for it."""
        costs = [price.cost(self.tokens, self.used.tool_calls) for price in self.prices] or [0]
        return self.cost_nano in costs

    def repriced(self, price: Price) -> Entry | None:
        """The correction that brings it to this price; None where it has that already."""
        served = price.served(self.used.service_tier)
        cost = served.cost(self.tokens, self.used.tool_calls)
        if cost == self.cost_nano and self.prices:
            return None
        ordinal = sum(correction.correction == Correction.REPRICED.value for correction in self.corrections)
        current = replace(self.record, cost_nano=self.cost_nano, tokens=self.tokens, price=served)
        return current.corrected(cost, self.tokens, Correction.REPRICED, ordinal)


class Repricing:
    """Of one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.price_list = pricelist.load(project.pk)
        self.providers = dict(Credential.objects.for_project(project).values_list("slug", "provider"))

    def price(self, entry: Entry, moment: dt.datetime | None = None) -> Price | None:
        """What its model costs at a moment (default: the record's)."""
        if entry.provider == DEMO:
            return demo.PRICE
        slug = self.providers.get(entry.provider, entry.provider)
        prices_id = PROVIDERS[slug].prices_id if slug in PROVIDERS else ""
        return self.price_list.find((entry.provider, slug), prices_id, entry.model_served, moment or entry.created_at)

    def run(self, first: dt.date, last: dt.date, model: str = "", *, keep: bool = True) -> Summary:
        """Days in the project's timezone, both included. Without `keep`, nothing is written."""
        summary = Summary()
        for ids in self.batches(first, last, model):
            with books_closed():
                corrections = list(self.corrections(ids, summary))
                if keep and corrections:
                    keep_corrections(corrections)
        return summary

    def batches(self, first: dt.date, last: dt.date, model: str) -> Iterator[Sequence[UUID]]:
        records = UsageRecord.objects.for_project(self.project).filter(corrects=None, day__range=(first, last))
        records = records.exclude(outcome__in=CHARGED_NOTHING).order_by("id")
        if model:
            records = records.filter(model_served=model)
        seen = list(records.values_list("pk", flat=True)[:BATCH])
        while seen:
            yield seen
            seen = list(records.filter(pk__gt=seen[-1]).values_list("pk", flat=True)[:BATCH])

    def corrections(self, ids: Sequence[UUID], summary: Summary) -> Iterator[Entry]:
        for standing in standings(ids):
            if not (standing.cost_nano or standing.tokens != Tokens()):
                continue
            summary.records += 1
            price = self.price(standing.record)
            summary.unpriced += price is None
            summary.held += not standing.follows_a_price
            if price is not None and standing.follows_a_price and (correction := standing.repriced(price)):
                summary.add(correction, was_unpriced=not standing.prices)
                yield correction


def standings(ids: Sequence[UUID]) -> list[Standing]:
    corrections: defaultdict[UUID, list[Entry]] = defaultdict(list)
    for row in UsageRecord.objects.filter(corrects__in=ids):
        corrections[row.corrects].append(entry_of(row))  # type: ignore[index]
    return [Standing(entry_of(row), corrections[row.pk]) for row in UsageRecord.objects.filter(pk__in=ids).order_by("pk")]


def entry_of(row: UsageRecord) -> Entry:
    """A record as the ledger writes it."""
    names = [name for name in Entry.__struct_fields__ if name not in ("tokens", "price")]
    return Entry(**{name: getattr(row, name) for name in names}, tokens=row.tokens, price=row.price_kept)

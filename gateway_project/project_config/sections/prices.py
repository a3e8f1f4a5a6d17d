"""The sections `prices`: price overrides of a project, and at the top level those of the operator.

A price is identified by its provider, model and start. Amounts are US dollars.
"""

import datetime as dt
from typing import Any

import yaml
from django.utils import timezone

from billing.models import PriceOverride
from billing.models.prices import PriceOverrideQuerySet
from billing.pricing.forms import RATE_FIELDS
from gateway_project.project_config.applier import Applier, export_row
from gateway_project.project_config.fields import (
    Field,
    amount,
    moment,
    parse_amounts,
    parse_moment,
    parse_text,
    render_amounts,
    render_moment,
)
from projects.models import Project
from projects.yaml_tree import Entry

IDENTITY = ("provider", "model", "effective_from")
FIELDS = (
    *(amount(column.replace("_nano", "_usd"), column) for column in RATE_FIELDS),
    Field("tool_fees_usd", "tool_fees", parse_amounts, render_amounts),
    moment("ended_at"),
)
NAMES = (*IDENTITY, *(field.name for field in FIELDS))
Identity = tuple[str, str, dt.datetime]


def prices_of(project: Project | None) -> PriceOverrideQuerySet:
    """Select the prices of a project; without a project, those of the operator."""
    prices = PriceOverride.objects
    return prices.for_operator() if project is None else prices.for_project(project)


def export_prices(project: Project | None) -> list[dict[str, Any]]:
    return [
        {
            "provider": row.provider,
            "model": row.model,
            "effective_from": render_moment(row.effective_from),
            **{name: value for name, value in export_row(row, FIELDS).items() if value not in (None, {})},
        }
        for row in prices_of(project)
    ]


def apply_prices(applier: Applier, project: Project | None, node: yaml.Node) -> None:
    owner = project.slug if project else "operator"
    stored = {(row.provider, row.model, row.effective_from): row for row in prices_of(project)}
    seen: set[Identity] = set()
    for value in applier.reader.sequence(node, f"{owner}: prices"):
        entry = applier.reader.entry(value, f"{owner}: price", NAMES)
        if (identity := read_identity(applier, entry, seen)) is not None:
            seen.add(identity)
            named = Entry(label_of(owner, identity), entry.line, entry.nodes)
            applier.save(stored.get(identity) or new_price(project, identity), named, FIELDS)
    for identity in stored.keys() - seen if applier.prunes else ():
        end_price(applier, stored[identity], label_of(owner, identity))


def end_price(applier: Applier, row: PriceOverride, label: str) -> None:
    """End a price that the document does not mention. The row stays, to reprice past requests."""
    if row.ended_at is None or row.ended_at > timezone.now():
        row.end_now()
        applier.remove(label, "ended")


def new_price(project: Project | None, identity: Identity) -> PriceOverride:
    provider, model, effective_from = identity
    return PriceOverride(project=project, provider=provider, model=model, effective_from=effective_from)


def label_of(owner: str, identity: Identity) -> str:
    provider, model, effective_from = identity
    pattern = f"{provider}/{model}" if provider else model
    return f"{owner}: price of {pattern} from {render_moment(effective_from)}"


def read_identity(applier: Applier, entry: Entry, seen: set[Identity]) -> Identity | None:
    """Return the provider, the model and the start of an entry; None if there is a problem."""
    try:
        identity = parse_identity(applier, entry)
        if identity in seen:
            raise ValueError("the document has two prices with this provider, model and start.")
    except ValueError as error:
        applier.add_problem(entry, "", str(error))
        return None
    return identity


def parse_identity(applier: Applier, entry: Entry) -> Identity:
    values = {
        name: applier.reader.plain(entry.nodes[name], entry.label) for name in IDENTITY if name in entry.nodes
    }
    if not values.get("model") or not values.get("effective_from"):
        raise ValueError("it needs a model, and the time from which it applies in effective_from.")
    start = parse_moment(values["effective_from"])
    return parse_text(values.get("provider") or ""), parse_text(values["model"]), start

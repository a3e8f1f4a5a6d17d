"""What a usage report is asked for, in the query of its address."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from billing.reports import Report
from projects.models import Project
from proxy.formats.neutral import BadRequest
from proxy.lean import GatewayRequest

DEFAULT_DAYS = 30
MAX_DAYS = 3660
SHAPE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
EARLIEST = dt.date(2000, 1, 1)
DIMENSIONS = {"model": "model_asked", "key": "key", "provider": "provider", "day": "day"}
"""Names of breakdowns, with the columns that they go by."""
FILTERS = {"model": "model_asked", "keyid": "key__public_id", "provider": "provider"}
MAX_FIELDS = 100
KNOWN = ("days", "from", "to", "groupby", "key", *FILTERS)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    report: Report
    group_by: tuple[str, ...]

    @property
    def period(self) -> dict[str, Any]:
        first, last = self.report.first, self.report.last
        return {"from": first, "to": last, "days": (last - first).days + 1, "timezone": self.report.project.timezone}


def parse(request: GatewayRequest, project: Project) -> UsageQuery:
    """Names may be written `groupBy` or `group_by`; `key` is the caller's own, for who sends it so. Raises BadRequest."""
    pairs = read_pairs(request.scope["query_string"].decode("latin-1"))
    given = {name.replace("_", "").lower(): value for name, value in pairs}
    if len(given) < len(pairs):
        raise BadRequest("Give each parameter once.")
    if unknown := set(given) - set(KNOWN):
        raise BadRequest(f"{', '.join(sorted(unknown))} is not known here. Known: days, from, to, groupBy, model, keyId, provider.")
    first, last = days_of(given, project.today())
    filters = {column: given[name] for name, column in FILTERS.items() if name in given}
    return UsageQuery(Report(project, first, last, filters), dimensions_of(given.get("groupby")))


def read_pairs(query: str) -> list[tuple[str, str]]:
    """Raises BadRequest for what no name in a database can hold."""
    try:
        pairs = parse_qsl(query, keep_blank_values=False, max_num_fields=MAX_FIELDS)
    except ValueError:
        raise BadRequest(f"There are more than {MAX_FIELDS} parameters.") from None
    for name, value in pairs:
        if not (name + value).isprintable():
            raise BadRequest("The parameters hold characters that no name has.")
    return pairs


def days_of(given: dict[str, str], today: dt.date) -> tuple[dt.date, dt.date]:
    """`days` counts back from today or from `to`; `from` says where to begin."""
    last = read_day("to", given["to"]) if "to" in given else today
    if "from" in given and "days" in given:
        raise BadRequest("Give either days or from.", "days")
    first = read_day("from", given["from"]) if "from" in given else last - dt.timedelta(days=read_count(given.get("days")) - 1)
    if first > last:
        raise BadRequest(f"from ({first}) is later than to ({last}).", "from")
    if (last - first).days >= MAX_DAYS:
        raise BadRequest(f"From {first} to {last} are more than {MAX_DAYS} days.", "from")
    return first, last


def read_day(name: str, text: str) -> dt.date:
    if not SHAPE.fullmatch(text):
        raise BadRequest(f"{name} must be a date such as 2026-11-01.", name)
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise BadRequest(f"{name} must be a date such as 2026-11-01: there is no {text}.", name) from None
    if day < EARLIEST:
        raise BadRequest(f"{name} is too early: {EARLIEST} is as far back as reports go.", name)
    return day


def read_count(text: str | None) -> int:
    if text is None:
        return DEFAULT_DAYS
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_DAYS):
        raise BadRequest(f"days must be a whole number from 1 to {MAX_DAYS}.", "days")
    return int(text)


def dimensions_of(text: str | None) -> tuple[str, ...]:
    """All of them, unless some are named."""
    names = tuple(DIMENSIONS) if text is None else tuple(dict.fromkeys(text.lower().split(",")))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise BadRequest(f"groupBy knows {', '.join(DIMENSIONS)}, not {', '.join(unknown)}.", "groupBy")
    return names

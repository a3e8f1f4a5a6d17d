"""The query of a usage report, parsed from the query string of the URL."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from billing.usage.reports import UsageReport
from projects.models import Project
from proxy.formats.metadata import parse_tag
from proxy.formats.neutral import InvalidRequest
from proxy.http.request import GatewayRequest

DEFAULT_DAYS = 30
MAX_DAYS = 3660
DATE_PATTERN = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
MIN_DATE = dt.date(2000, 1, 1)
DIMENSIONS = {"model": "requested_model", "key": "key", "provider": "provider", "day": "day"}
"""Names of breakdowns, and the columns by which they group."""
FILTERS = {"model": "requested_model", "keyid": "key__public_id", "provider": "provider"}
MAX_PARAMETERS = 100
PARAMETERS = ("days", "from", "to", "groupby", "tag", "key", *FILTERS)
TAG_PREFIX = "tag:"
MAX_TAG_BREAKDOWNS = 5


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """A usage report, and the breakdowns that the client asked for."""

    report: UsageReport
    group_by: tuple[str, ...]
    tag_names: tuple[str, ...] = ()

    @property
    def period(self) -> dict[str, Any]:
        """Return the period in the form that the report contains."""
        first, last = self.report.first, self.report.last
        return {
            "from": first,
            "to": last,
            "days": (last - first).days + 1,
            "timezone": self.report.project.timezone,
        }


def parse(request: GatewayRequest, project: Project) -> UsageQuery:
    """Parse the query of a request. Raises InvalidRequest."""
    return parse_query(request.scope["query_string"].decode("latin-1"), project)


def parse_query(query: str, project: Project) -> UsageQuery:
    """Parse a query string. Raises InvalidRequest.

    Names may be written `groupBy` or `group_by`. `tag` may be repeated. `key` is ignored here, because
    clients may send their API key in it.
    """
    pairs = parse_pairs(query)
    named = [(name.replace("_", "").lower(), value) for name, value in pairs]
    given, tags = dict(named), [value for name, value in named if name == "tag"]
    if len(given) < len(named) - max(len(tags) - 1, 0):
        raise InvalidRequest("Give each parameter once, except for tag.")
    if unknown := set(given) - set(PARAMETERS):
        raise InvalidRequest(
            f"{', '.join(sorted(unknown))} is not known here. "
            "Known: days, from, to, groupBy, model, keyId, provider, tag."
        )
    first, last = parse_date_range(given, project.today())
    filters = {column: given[name] for name, column in FILTERS.items() if name in given}
    report = UsageReport(project, first, last, filters, [parse_tag(tag) for tag in tags])
    return UsageQuery(report, *parse_group_by(given.get("groupby")))


def parse_pairs(query: str) -> list[tuple[str, str]]:
    """Return the parameters.

    Raises InvalidRequest for too many parameters, and for unprintable characters.
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=False, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        raise InvalidRequest(f"There are more than {MAX_PARAMETERS} parameters.") from None
    for name, value in pairs:
        if not (name + value).isprintable():
            raise InvalidRequest("The parameters contain unprintable characters.")
    return pairs


def parse_date_range(parameters: dict[str, str], today: dt.date) -> tuple[dt.date, dt.date]:
    """Return the first and the last day. `days` counts back from `to`, or from today."""
    last = parse_date("to", parameters["to"]) if "to" in parameters else today
    if "from" in parameters and "days" in parameters:
        raise InvalidRequest("Give either days or from.", "days")
    first = (
        parse_date("from", parameters["from"])
        if "from" in parameters
        else last - dt.timedelta(days=parse_days(parameters.get("days")) - 1)
    )
    if first > last:
        raise InvalidRequest(f"from ({first}) is later than to ({last}).", "from")
    if (last - first).days >= MAX_DAYS:
        raise InvalidRequest(f"The period from {first} to {last} is more than {MAX_DAYS} days long.", "from")
    return first, last


def parse_date(name: str, text: str) -> dt.date:
    if not DATE_PATTERN.fullmatch(text):
        raise InvalidRequest(f"{name} must be a date such as 2026-11-01.", name)
    try:
        day = dt.date.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"{name} must be a date such as 2026-11-01: there is no {text}.", name) from None
    if day < MIN_DATE:
        raise InvalidRequest(f"{name} is too early: reports begin at {MIN_DATE}.", name)
    return day


def parse_days(text: str | None) -> int:
    if text is None:
        return DEFAULT_DAYS
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_DAYS):
        raise InvalidRequest(f"days must be a whole number from 1 to {MAX_DAYS}.", "days")
    return int(text)


def parse_group_by(text: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the requested breakdowns, and the names of tags to break down by.

    If the parameter is missing, these are all breakdowns, except those by tags.
    """
    if text is None:
        return tuple(DIMENSIONS), ()
    parts = dict.fromkeys(text.split(","))
    tags = tuple(part[len(TAG_PREFIX) :] for part in parts if part.lower().startswith(TAG_PREFIX))
    names = tuple(dict.fromkeys(part.lower() for part in parts if not part.lower().startswith(TAG_PREFIX)))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        known = f"{', '.join(DIMENSIONS)} or tag:NAME"
        raise InvalidRequest(f"groupBy must be one of {known}; got {', '.join(unknown)}.", "groupBy")
    if not all(tags) or len(tags) > MAX_TAG_BREAKDOWNS:
        raise InvalidRequest(
            f"groupBy takes at most {MAX_TAG_BREAKDOWNS} tags, each with a name: tag:NAME.", "groupBy"
        )
    return names, tags

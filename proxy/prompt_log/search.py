"""Search in the log: the requests that a key may see, with filters, from new to old."""

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from django.db.models import Q, Sum

from billing.models import UsageRecord
from billing.models.usage import UsageRecordQuerySet
from billing.usage.tags import with_tags
from keys.models import ApiKey
from projects.ids import uuid7_floor
from projects.vault import DecryptionError
from proxy.formats.metadata import parse_tag
from proxy.formats.neutral import InvalidRequest
from proxy.models import PromptLogEntry
from proxy.prompt_log.body import LoggedBody, unseal_body

READ_SCOPE = "logs:read"
ADMIN_SCOPE = "project:manage"
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
REQUEST_ID_PREFIX = "req_"
"""Prefix of the request ids that the gateway generates, before the id of the record."""
MIN_TIME = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
FILTERS = {"model": "requested_model", "keyid": "key__public_id", "outcome": "outcome"}
PARAMETERS = ("limit", "before", "from", "to", "tag", "key", *FILTERS)
PARAMETER_NAMES = "limit, before, from, to, model, keyId, outcome, tag"


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request in the log.

    `body` is None if the log has no prompt of it. `cost_nano` includes corrections.
    """

    record: UsageRecord
    cost_nano: int
    body: LoggedBody | None


@dataclass(frozen=True, slots=True)
class LogSearch:
    """The search of a key: what it may see, and the filters of its query."""

    key: ApiKey
    sees_project: bool
    limit: int = DEFAULT_LIMIT
    conditions: Q = field(default_factory=Q)
    tags: Sequence[tuple[str, str]] = ()

    def visible(self) -> UsageRecordQuerySet:
        """Select the requests that the key may see: its own, or those of its project."""
        records = UsageRecord.objects.for_project(self.key.project).requests().exclude(requested_model="")
        return records if self.sees_project else records.filter(key=self.key)

    def page(self) -> list[LoggedRequest]:
        """Return the newest requests that match, at most `limit`."""
        records = with_tags(self.visible().filter(self.conditions).select_related("key"), self.tags)
        return list(with_bodies(self.key.project_id, records.order_by("-id")[: self.limit]))

    def find(self, id: str) -> LoggedRequest | None:
        """Return the request with this id if the key may see it."""
        if (record_id := parse_id(id)) is None:
            return None
        found = with_bodies(self.key.project_id, self.visible().select_related("key").filter(pk=record_id))
        return next(found, None)


def with_bodies(
    project_id: int, records: Collection[UsageRecord] | UsageRecordQuerySet
) -> Iterator[LoggedRequest]:
    """Yield records with their bodies and the sums of their corrections."""
    rows = list(records)
    ids = [row.pk for row in rows]
    entries = PromptLogEntry.objects.of_project(project_id, ids)
    corrected = corrections_by_record(project_id, ids)
    for row in rows:
        yield LoggedRequest(row, row.cost_nano + corrected.get(row.pk, 0), read_body(entries.get(row.pk)))


def corrections_by_record(project_id: int, ids: Collection[UUID]) -> dict[UUID, int]:
    """Return the sums of the corrections of records, in nano-USD. Records without corrections are absent."""
    corrections = UsageRecord.objects.filter(project=project_id, corrects__in=ids).order_by()
    return dict(corrections.values_list("corrects").annotate(Sum("cost_nano")))


def find_body(project_id: int, id: UUID) -> LoggedBody | None:
    """Return the body of a project's request; None if the log has none."""
    return read_body(PromptLogEntry.objects.of_project(project_id, [id]).get(id))


def read_body(entry: PromptLogEntry | None) -> LoggedBody | None:
    """Return the body of an entry; None if there is none, or if its encryption key is missing."""
    if entry is None:
        return None
    try:
        return unseal_body(entry.project_id, bytes(entry.sealed_body))
    except DecryptionError:
        return None


def parse_search(key: ApiKey, pairs: Sequence[tuple[str, str]], *, sees_project: bool) -> LogSearch:
    """Return the search of a query string. Raises InvalidRequest.

    Names may be written `keyId` or `key_id`. `tag` may be repeated. `key` is ignored, because clients may
    send their API key in it.
    """
    named = [(name.replace("_", "").lower(), value) for name, value in pairs]
    given = dict(named)
    if unknown := set(given) - set(PARAMETERS):
        names = ", ".join(sorted(unknown))
        raise InvalidRequest(f"{names} is not known here. Known: {PARAMETER_NAMES}.")
    if len(given) < len([name for name, _ in named if name != "tag"]) + ("tag" in given):
        raise InvalidRequest("Give each parameter once, except for tag.")
    conditions = Q(**{column: given[name] for name, column in FILTERS.items() if name in given})
    if "before" in given:
        conditions &= Q(pk__lt=required_id(given["before"]))
    if "from" in given:
        conditions &= Q(pk__gte=parse_time(key.project.tzinfo, "from", given["from"]))
    if "to" in given:
        conditions &= Q(pk__lt=parse_time(key.project.tzinfo, "to", given["to"]))
    tags = [parse_tag(value) for name, value in named if name == "tag"]
    return LogSearch(key, sees_project, parse_limit(given.get("limit")), conditions, tags)


def parse_limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidRequest(f"limit must be a whole number from 1 to {MAX_LIMIT}.", "limit")
    return int(text)


def parse_time(timezone: dt.tzinfo, name: str, text: str) -> UUID:
    """Return an id that is at most as large as the ids of all requests since a time.

    A date, or a time without an offset, is in `timezone`.
    """
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{name} must be a time such as 2026-11-20 or 2026-11-20T09:30:00Z.", name
        ) from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=timezone)
    if not MIN_TIME < time < MIN_TIME.replace(year=9000):
        raise InvalidRequest(f"{name} must be a time after {MIN_TIME:%Y-%m-%d}.", name)
    return uuid7_floor(time)


def required_id(text: str) -> UUID:
    if (id := parse_id(text)) is None:
        raise InvalidRequest("before must be the id of a request.", "before")
    return id


def parse_id(text: str) -> UUID | None:
    """Return the id of a record. The gateway's own request ids contain it too."""
    try:
        return UUID(text.removeprefix(REQUEST_ID_PREFIX))
    except ValueError:
        return None

"""Fills the table of usage records by bulk SQL, for tests of queries over many records."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from billing.models import UsageRecord
from keys.models import ApiKey
from tests.support.factories import DEMO_CALL, UNUSED_TOKENS

MODELS, PROVIDERS = 30, 5
COLUMNS = UsageRecord._meta.local_concrete_fields
PREFIX_DIGITS = 12


def fill(keys: Sequence[ApiKey], days: Mapping[dt.date, int], per_copy: int) -> None:
    """Insert records for each day, spread over the keys, 30 models and 5 providers.

    `days` says how many copies of the same `per_copy` records each day has. Only the first copy is made in
    Python. SQL makes the others, which differ in id, day and time.
    """
    first, *others = [(day, number) for day, copies in days.items() for number in range(copies)]
    insert([row(keys, first[0], number) for number in range(per_copy)])
    for day, number in others:
        copy_records(first[0], day, number)


def copy_records(source: dt.date, day: dt.date, number: int) -> None:
    """Copy the first records of a day to another day, or to the same day under other ids."""
    is_sqlite = connection.vendor == "sqlite"
    digits = "id" if is_sqlite else "replace(id::text, '-', '')"
    copied_id = f"%s || substr({digits}, {PREFIX_DIGITS + 1})"
    expressions = {field.attname: field.attname for field in COLUMNS} | {
        "id": copied_id if is_sqlite else f"({copied_id})::uuid",
        "day": "%s" if is_sqlite else "%s::date",
        "created_at": "%s" if is_sqlite else "%s::timestamptz",
    }
    order = [field.attname for field in COLUMNS]
    parameters = {"id": id_prefix(day, number), "day": day.isoformat(), "created_at": f"{day} 12:00:00+00:00"}
    # The prefix of the ids selects the first copy of the source's day.
    lower = uuid_text(f"{id_prefix(source, 0)}{'0' * 20}"), uuid_text(f"{id_prefix(source, 0)}{'f' * 20}")
    statement = (
        f"INSERT INTO billing_usagerecord ({', '.join(order)}) "
        f"SELECT {', '.join(expressions[name] for name in order)} FROM billing_usagerecord "
        "WHERE id BETWEEN %s AND %s"
    )
    given = [parameters[name] for name in order if name in parameters]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, [*given, *lower])


def uuid_text(digits: str) -> str:
    """Return an id as the database stores it."""
    return digits if connection.vendor == "sqlite" else str(UUID(digits))


def id_prefix(day: dt.date, number: int) -> str:
    """Return the first hexadecimal digits of ids: the milliseconds of a day's start, and a number."""
    start = dt.datetime.combine(day, dt.time.min, tzinfo=dt.UTC)
    return f"{int(start.timestamp() * 1000) + number:0{PREFIX_DIGITS}x}"


def row(keys: Sequence[ApiKey], day: dt.date, number: int) -> tuple[Any, ...]:
    key, model = keys[number % len(keys)], number % MODELS
    values = {
        "id": UUID(f"{id_prefix(day, 0)}7{number:019x}"),
        "project": key.project_id,
        "key": key.pk,
        "day": day,
        "created_at": dt.datetime.combine(day, dt.time.min, tzinfo=dt.UTC),
        "request_id": f"req-{number}",
        "requested_model": f"model-{model}",
        "provider_model": f"model-{model}",
        "outcome": "ok",
        "input_tokens": 1000 + number % 977,
        "output_tokens": 100 + number % 97,
        "cost_nano": 1_000_000 + number % 1009,
        "latency_us": 900_000,
        **UNUSED_TOKENS,
        **DEMO_CALL,
        "provider": f"provider-{model % PROVIDERS}",
    }
    return tuple(prepared(field, values) for field in COLUMNS)


def prepared(field: Any, values: dict[str, Any]) -> Any:
    value = values.get(field.name, field.get_default() if not field.null else None)
    return field.get_db_prep_save(value, connection)


def insert(rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(field.attname for field in COLUMNS)
    marks = ", ".join(["%s"] * len(COLUMNS))
    statement = f"INSERT INTO billing_usagerecord ({names}) VALUES ({marks})"
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def last_days(last: dt.date, count: int) -> Iterator[dt.date]:
    """Yield the days up to `last`, from the earliest one on."""
    return (last - dt.timedelta(days=number) for number in reversed(range(count)))

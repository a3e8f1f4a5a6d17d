"""Keyset pages: a cursor names the last row of a page, and is signed so that clients cannot change it."""

from collections.abc import Sequence
from typing import TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.request import Request

from gateway_project.api.envelope import InvalidFields

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
ModelT = TypeVar("ModelT", bound=Model)
signer = signing.Signer(salt="gateway_project.api.cursor")


def paginate(
    rows: "QuerySet[ModelT]", request: Request, *, context: str, newest_first: bool = False
) -> tuple[Sequence[ModelT], str | None]:
    """Return a page of rows by their ids, and the cursor of the next page, or None on the last page.

    `context` names the list: a cursor of another list is not valid. Raises InvalidFields for a wrong `limit`
    or `cursor`.
    """
    limit = parse_limit(request)
    if given := request.query_params.get("cursor"):
        (text,) = unsign_cursor(given, context)
        last_id = rows.model._meta.pk.to_python(text)
        rows = rows.filter(pk__lt=last_id) if newest_first else rows.filter(pk__gt=last_id)
    found = list(rows.order_by("-pk" if newest_first else "pk")[: limit + 1])
    is_last = len(found) <= limit
    return found[:limit], None if is_last else sign_cursor(context, [str(found[limit - 1].pk)])


def parse_limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidFields({"limit": [f"Enter a whole number from 1 to {MAX_LIMIT}."]})
    return int(text)


def sign_cursor(context: str, last: Sequence[str]) -> str:
    """Return the cursor after the row with these values."""
    return signer.sign_object([context, list(last)])


def unsign_cursor(text: str, context: str) -> list[str]:
    """Return the values of a cursor. Raises InvalidFields if this list has not issued it."""
    try:
        issued_for, last = signer.unsign_object(text)
    except (signing.BadSignature, ValueError):
        issued_for, last = "", []
    if issued_for != context:
        raise InvalidFields(
            {"cursor": ["This cursor does not belong to this list. Use the nextCursor of one of its pages."]}
        )
    return list(last)

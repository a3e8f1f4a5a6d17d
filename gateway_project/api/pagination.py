"""Keyset pages: a cursor names the last row of a page, and is signed so that clients cannot change it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.core import signing
from django.db.models import Model, QuerySet
from rest_framework.request import Request

from gateway_project.api.envelope import InvalidFields

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
ModelT = TypeVar("ModelT", bound=Model)
signer = signing.Signer(salt="gateway_project.api.cursor")


def paginate(
    rows: "QuerySet[ModelT]", request: Request, *, order: str = "pk", context: str
) -> tuple[Sequence[ModelT], str | None]:
    """Return a page of rows, and the cursor of the next page, or None on the last page.

    `order` is a unique column; with a minus, from high to low. `context` names the list: a cursor of another
    list is not valid. Raises InvalidFields for a wrong `limit` or `cursor`.
    """
    limit, column = parse_limit(request), order.removeprefix("-")
    if given := request.query_params.get("cursor"):
        comparison = "lt" if order.startswith("-") else "gt"
        rows = rows.filter(**{f"{column}__{comparison}": read_cursor(given, context, rows, column)})
    found = list(rows.order_by(order)[: limit + 1])
    if len(found) <= limit:
        return found, None
    return found[:limit], signer.sign_object(
        [context, str(getattr(found[limit - 1], column))], compress=False
    )


def parse_limit(request: Request) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 4 and 1 <= int(text) <= MAX_LIMIT):
        raise InvalidFields({"limit": [f"Enter a whole number from 1 to {MAX_LIMIT}."]})
    return int(text)


def read_cursor(text: str, context: str, rows: "QuerySet[Any]", column: str) -> Any:
    """Return the value of a cursor. Raises InvalidFields if this list has not issued it."""
    parse: Callable[[Any], Any] = rows.model._meta.get_field(
        rows.model._meta.pk.name if column == "pk" else column
    ).to_python
    try:
        issued_for, value = signer.unsign_object(text)
    except (signing.BadSignature, ValueError):
        issued_for, value = "", ""
    if issued_for != context:
        raise InvalidFields(
            {"cursor": ["This cursor does not belong to this list. Use the nextCursor of one of its pages."]}
        )
    return parse(value)

"""The error page that Django shows if a view fails."""

import sys

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader
from redis import RedisError

from billing.ledger import LedgerUnavailable

OUTAGE_ERRORS = (OperationalError, InterfaceError, LedgerUnavailable, RedisError)
RETRY_AFTER_S = 5


def server_error(_request: HttpRequest) -> HttpResponse:
    """Return a 503 if the view failed because a database or Redis is down, otherwise a 500.

    The templates are rendered without context processors, because these could fail like the view.
    """
    if isinstance(sys.exc_info()[1], OUTAGE_ERRORS):
        return HttpResponse(
            loader.get_template("503.html").render(), status=503, headers={"retry-after": str(RETRY_AFTER_S)}
        )
    return HttpResponse(loader.get_template("500.html").render(), status=500)

"""Deferred records: the records of requests whose responses continue in the background.

The gateway stores what it needs to charge such a response before the request ends. When the response has
ended, the process that polls it (`poller.py`) writes the record (`settlement.py`).
"""

from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import msgspec
import structlog
from django.db import Error as DatabaseError
from django.db import OperationalError
from django.utils import timezone
from msgspec.structs import replace

from billing.ledger.usage_entry import encode_entry
from billing.pricing import Price
from projects.db.executor import run_query
from projects.db.health import database_health
from proxy.formats.account_ids import RESPONSE
from proxy.formats.neutral import UsageDefaults
from proxy.formats.openai_responses.server_tools import billed_tools
from proxy.models import BackgroundResponse
from proxy.models.background_responses import FIRST_POLL_S
from proxy.pipeline.account_ids import digest
from proxy.pipeline.admission import Admitted
from proxy.pipeline.charges import apply_charge, assumed_usage, charge

log = structlog.get_logger()


async def store(admitted: Admitted, response_id: str) -> bool:
    """Store what is needed to charge a response later. Return False if the database cannot store it."""
    background = background_response(admitted, response_id)
    try:
        if database_health.is_down:
            raise OperationalError("the database is down")
        await run_query(BackgroundResponse.objects.add, background)
    except DatabaseError as error:
        log.error(
            "background_response_not_stored",
            message="A response continues in the background, and the database does not accept what is needed "
            "to poll it. It is charged by an estimate.",
            request_id=admitted.planned.routed.parsed.caller.received.request_id,
            reason=f"{type(error).__name__}: {error}",
        )
        return False
    return True


def background_response(admitted: Admitted, response_id: str) -> BackgroundResponse:
    """Return the row of a response, with the record that is written if the result cannot be fetched."""
    target, entry = admitted.planned.candidate.target, admitted.usage_entry()
    entry.reserved_nano = admitted.reservation.amount
    apply_charge(entry, charge(admitted, assumed_usage(admitted), estimated=True))
    return BackgroundResponse(
        id=entry.id,
        project_id=entry.project_id,
        account=target.account.slug,
        digest=digest(target.account, RESPONSE, response_id),
        response_id=response_id,
        entry=encode_entry(entry).decode(),
        price=encode_price(target.price),
        usage_defaults=encode_defaults(admitted.planned.candidate.plan.facts.usage_defaults),
        next_poll_at=timezone.now() + timedelta(seconds=FIRST_POLL_S),
    )


def encode_price(price: Price | None) -> str:
    return "" if price is None else msgspec.json.encode(price).decode()


def encode_defaults(defaults: UsageDefaults) -> str:
    """Return the defaults in JSON, without the tools that the client runs."""
    return msgspec.json.encode(replace(defaults, tools=billed_tools(defaults.tools))).decode()


async def discard(id: UUID) -> bool:
    """Delete the row of a response whose record has been written. Return False if it was already deleted.

    If the database does not respond, the next poll settles the response again, which has no effect.
    """
    with suppress(DatabaseError):
        return await run_query(BackgroundResponse.objects.discard, id)
    return False

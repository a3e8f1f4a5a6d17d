"""What is under way ends with the key that it came with: one that is revoked, expires, or is deleted with its project."""

import asyncio
from collections import defaultdict

import structlog

from keys.authentication import Principal, is_still_valid
from proxy import errors
from proxy.pipeline.exchange import Exchange, in_flight

POLL_INTERVAL_S = 2
"""Beside this, a change takes `configcache.POLL_S` to be seen."""

log = structlog.get_logger()


async def poll_revocations() -> None:
    """Looks again and again, for as long as the process serves. Unless something has changed, no query is made."""
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        try:
            await abort_revoked()
        except Exception as error:
            log.error("streams could not be checked for keys that have ended", exc_info=error)


async def abort_revoked() -> None:
    by_key: defaultdict[str, list[Exchange]] = defaultdict(list)
    for exchange in in_flight:
        by_key[principal_of(exchange).public_id].append(exchange)
    for exchanges in by_key.values():
        if not await is_still_valid(principal_of(exchanges[0])):
            for exchange in exchanges:
                exchange.abort(errors.invalid_key())


def principal_of(exchange: Exchange) -> Principal:
    assert exchange.principal is not None
    return exchange.principal

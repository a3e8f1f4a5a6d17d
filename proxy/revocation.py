"""What is under way ends with the key that it came with: one that is revoked, expires, or is deleted with its project."""

import asyncio
from collections import defaultdict

import structlog

from keys.authentication import Grant, still_holds
from proxy import errors
from proxy.exchange import Exchange, under_way

CHECK_S = 2
"""Beside this, a change takes `configcache.POLL_S` to be seen."""

log = structlog.get_logger()


async def watch() -> None:
    """Looks again and again, for as long as the process serves. Unless something has changed, no query is made."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await cut_what_may_not_go_on()
        except Exception as error:
            log.error("streams could not be checked for keys that have ended", exc_info=error)


async def cut_what_may_not_go_on() -> None:
    by_key: defaultdict[str, list[Exchange]] = defaultdict(list)
    for exchange in under_way:
        by_key[granted(exchange).public_id].append(exchange)
    for exchanges in by_key.values():
        if not await still_holds(granted(exchanges[0])):
            for exchange in exchanges:
                exchange.cut(errors.wrong_key())


def granted(exchange: Exchange) -> Grant:
    assert exchange.grant is not None
    return exchange.grant

"""Abort requests in flight whose API key was revoked, has expired, or was deleted with its project."""

import asyncio
from collections import defaultdict

import structlog

from keys.authentication import is_still_valid
from proxy import errors
from proxy.pipeline.authenticate import Authenticated, in_flight

POLL_INTERVAL_S = 2
"""Seconds between checks.

A revocation takes effect after at most this plus `config_cache.POLL_INTERVAL_S`.
"""

log = structlog.get_logger()


async def poll_revocations() -> None:
    """Check the keys of requests in flight while the process serves.

    A check queries the database only if a key or project has changed.
    """
    while True:
        await asyncio.sleep(POLL_INTERVAL_S)
        try:
            await abort_revoked()
        except Exception as error:
            log.error(
                "revocation_check_failed",
                message="Requests in flight could not be checked for revoked keys. The check is tried again.",
                exc_info=error,
            )


async def abort_revoked() -> None:
    """Abort the calls and streams of keys that are no longer valid. The usage so far is charged."""
    by_key: defaultdict[str, list[Authenticated]] = defaultdict(list)
    for caller in in_flight:
        by_key[caller.principal.public_id].append(caller)
    for callers in by_key.values():
        if not await is_still_valid(callers[0].principal):
            for caller in callers:
                caller.received.request.disconnect_watcher.abort(errors.invalid_key())

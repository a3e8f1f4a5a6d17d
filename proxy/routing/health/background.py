"""Background task of a process: it exchanges the health of targets, and alerts admins."""

import asyncio

import hiredis
import structlog
from django.db import Error as DatabaseError

from billing.ledger.redis.client.protocol import RedisUnavailable
from projects.db.executor import run_query
from proxy.routing.health.alerts import alert_admins
from proxy.routing.health.shared_state import SharedState
from proxy.routing.health.target_health import HealthRegistry, TargetHealth, claim_locally

INTERVAL_S = 1.0

log = structlog.get_logger()


async def run(registry: HealthRegistry, shared: SharedState | None) -> None:
    """Exchange changes and alert admins while the process serves. `shared` is None without Redis."""
    if shared is not None:
        registry.claim = shared.claim_probe
    try:
        while True:
            await asyncio.sleep(INTERVAL_S)
            await exchange_safely(registry, shared)
    finally:
        registry.claim = claim_locally


async def exchange_safely(registry: HealthRegistry, shared: SharedState | None) -> None:
    """Exchange changes and alert admins. An error is logged, so that the next exchange follows."""
    try:
        await exchange_and_alert(registry, shared)
    except Exception as error:
        log.error(
            "target_health_not_exchanged",
            message="The health of targets could not be exchanged. It is tried again in a second.",
            exc_info=error,
        )


async def exchange_and_alert(registry: HealthRegistry, shared: SharedState | None) -> None:
    """Exchange the changes since the last time, and alert admins of them."""
    changed = registry.take_changes()
    try:
        if shared is not None:
            await shared.exchange(registry, changed)
    except (RedisUnavailable, hiredis.ReplyError):
        # The connection logs the outage. The breakers of this process work without the others.
        pass
    for target in changed:
        await alert(target)


async def alert(target: TargetHealth) -> None:
    """Alert the admins of a project whose credential has become unusable."""
    credential, (project_id, slug, *_) = target.credential, target.key
    if not project_id or credential.is_alerted is not credential.is_usable:
        return
    credential.is_alerted = not credential.is_usable
    if credential.is_usable:
        return
    try:
        await run_query(alert_admins, project_id, slug, credential.reason)
    except DatabaseError as error:
        log.error(
            "credential_alert_failed",
            message="The database does not accept the alert about a rejected credential.",
            project_id=project_id,
            credential=slug,
            reason=f"{type(error).__name__}: {error}",
        )

"""For operators' machines: is the process alive, may it get requests, and what has it counted. They need no key."""

import asyncio
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings

from billing import ledger
from billing.ledger.redis import RedisLedger
from projects.configcache import database
from proxy import metrics, operator_config
from proxy.lean import GatewayRequest, LeanView, Reply
from proxy.operations import HEALTH, METRICS, READY, Operation
from proxy.process import process
from proxy.providers import demo


def operator_view(operation: Operation, answer: LeanView) -> LeanView:
    async def view(request: GatewayRequest) -> Any:
        if request.method not in ("GET", "HEAD"):
            return Reply(405, {"allow": "GET", "content-type": "text/plain"}, b"Use GET.\n")
        return await answer(request)

    view.operation = operation  # type: ignore[attr-defined]
    return view


async def show_health(_request: GatewayRequest) -> Reply:
    models = len(operator_config.current().models) + len(demo.MODELS)
    return json_reply(200, {"status": "healthy", "models": models, "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})


async def show_readiness(_request: GatewayRequest) -> Reply:
    """Without its database a gateway still serves the keys that it knows, and without Redis those that no budget closes: no reason to
    take requests away from it."""
    if not process.ready:
        return json_reply(503, {"status": "stopping"})
    missing = [name for name, is_away in (("database", database.is_away), ("redis", redis_is_away())) if is_away]
    return json_reply(200, {"status": "ready", "degraded": missing} if missing else {"status": "ready"})


def redis_is_away() -> bool:
    book = ledger.current()
    return isinstance(book, RedisLedger) and book.upkeep.redis_is_away


async def show_metrics(request: GatewayRequest) -> Reply:
    token = settings.ENV.gateway_metrics_token
    if token and not hmac.compare_digest(request.header(b"authorization").encode(), f"Bearer {token}".encode()):
        return Reply(401, {"www-authenticate": "Bearer", "content-type": "text/plain"}, b"A token is needed.\n")
    return Reply(200, {"content-type": "text/plain; version=0.0.4; charset=utf-8"}, await asyncio.to_thread(metrics.exposition))


def json_reply(status: int, body: dict[str, Any]) -> Reply:
    return Reply(status, {"content-type": "application/json", "cache-control": "no-store"}, msgspec.json.encode(body))


health = operator_view(HEALTH, show_health)
ready = operator_view(READY, show_readiness)
prometheus = operator_view(METRICS, show_metrics)

"""For operators' machines: is the process alive, may it get requests, and what has it counted. They need no key."""

import asyncio
import hmac
from datetime import UTC, datetime
from typing import Any

import msgspec
from django.conf import settings

from billing import ledger
from billing.ledger.redis import RedisLedger
from projects.db.health import database_health
from proxy.http.handler import GatewayRequest, GatewayView, Response
from proxy.operations import HEALTH, METRICS, READY, Operation
from proxy.pipeline import telemetry
from proxy.providers import demo
from proxy.routing import config_file
from proxy.runtime import runtime


def keyless_view(operation: Operation, handler: GatewayView) -> GatewayView:
    async def view(request: GatewayRequest) -> Any:
        if request.method not in ("GET", "HEAD"):
            return Response(405, {"allow": "GET", "content-type": "text/plain"}, b"Use GET.\n")
        return await handler(request)

    view.operation = operation  # type: ignore[attr-defined]
    return view


async def get_health(_request: GatewayRequest) -> Response:
    models = len(config_file.load().models) + len(demo.MODELS)
    return json_response(
        200,
        {
            "status": "healthy",
            "models": models,
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    )


async def get_readiness(_request: GatewayRequest) -> Response:
    """Without its database a gateway still serves the keys that it knows, and without Redis those that no budget closes: no reason to
    take requests away from it.
    """
    if not runtime.ready:
        return json_response(503, {"status": "stopping"})
    missing = [
        name
        for name, is_away in (("database", database_health.is_down), ("redis", is_redis_down()))
        if is_away
    ]
    return json_response(200, {"status": "ready", "degraded": missing} if missing else {"status": "ready"})


def is_redis_down() -> bool:
    book = ledger.current()
    return isinstance(book, RedisLedger) and book.background_tasks.is_redis_down


async def get_metrics(request: GatewayRequest) -> Response:
    token = settings.ENV.gateway_metrics_token
    if token and not hmac.compare_digest(
        request.header(b"authorization").encode(), f"Bearer {token}".encode()
    ):
        return Response(
            401, {"www-authenticate": "Bearer", "content-type": "text/plain"}, b"A token is needed.\n"
        )
    return Response(
        200,
        {"content-type": "text/plain; version=0.0.4; charset=utf-8"},
        await asyncio.to_thread(telemetry.render),
    )


def json_response(status: int, body: dict[str, Any]) -> Response:
    return Response(
        status, {"content-type": "application/json", "cache-control": "no-store"}, msgspec.json.encode(body)
    )


health_view = keyless_view(HEALTH, get_health)
ready_view = keyless_view(READY, get_readiness)
metrics_view = keyless_view(METRICS, get_metrics)

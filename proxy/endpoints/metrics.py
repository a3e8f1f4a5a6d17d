"""Metrics in Prometheus' text format."""

import asyncio
import hmac

from django.conf import settings

from proxy import telemetry
from proxy.endpoints.views import keyless
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response
from proxy.operations import METRICS


@keyless(METRICS)
async def metrics_view(request: GatewayRequest) -> Response:
    """Return all metrics; if GATEWAY_METRICS_TOKEN is set, only to clients that send it."""
    token = settings.ENV.gateway_metrics_token
    given = request.header(b"authorization").encode()
    if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):
        headers = {"www-authenticate": "Bearer", "content-type": "text/plain"}
        return Response(401, headers, b"A token is needed.\n")
    headers = {"content-type": "text/plain; version=0.0.4; charset=utf-8"}
    return Response(200, headers, await asyncio.to_thread(telemetry.render))

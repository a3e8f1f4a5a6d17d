"""Health and readiness of the process, for load balancers and orchestrators. No API key is needed."""

from datetime import UTC, datetime

from billing import ledger
from projects.db.health import database_health
from proxy.endpoints.views import keyless
from proxy.http.request import GatewayRequest
from proxy.http.responses import Response, json_response
from proxy.operations import HEALTH, READY
from proxy.routing.model_list import model_counter
from proxy.runtime import runtime

NO_STORE = {"cache-control": "no-store"}


@keyless(HEALTH)
async def health_view(_request: GatewayRequest) -> Response:
    """Respond that the process is alive."""
    timestamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = {"status": "healthy", "models": model_counter.count(), "timestamp": timestamp}
    return json_response(200, NO_STORE, body)


@keyless(READY)
async def ready_view(_request: GatewayRequest) -> Response:
    """Respond whether the process accepts requests.

    The process stays ready while the database or Redis is down. Without the database, it accepts keys that
    are cached. Without Redis, it accepts keys that have no budget.
    """
    if not runtime.ready:
        return json_response(503, NO_STORE, {"status": "stopping"})
    degraded = [*(("database",) if database_health.is_down else ()), *ledger.current().degraded()]
    body = {"status": "ready", "degraded": degraded} if degraded else {"status": "ready"}
    return json_response(200, NO_STORE, body)

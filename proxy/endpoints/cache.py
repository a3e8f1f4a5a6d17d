"""View that purges the response cache of the caller's project."""

from proxy.cache import store
from proxy.endpoints.views import keyed
from proxy.http.responses import Response, json_response
from proxy.operations import PURGE_CACHE
from proxy.pipeline.authenticate import Authenticated


@keyed(PURGE_CACHE)
async def purge_cache(caller: Authenticated) -> Response:
    """Delete all cached responses of the project, and return their number."""
    purged = await store.current().purge(caller.principal.project_id)
    return json_response(200, {}, {"success": True, "data": {"purged": purged}})

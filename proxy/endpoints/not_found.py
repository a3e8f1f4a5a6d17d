"""Views of paths that no gateway route matches: a 404 in the format that the prefix belongs to."""

from proxy import errors, operations
from proxy.endpoints.views import keyed
from proxy.http.responses import Response
from proxy.pipeline.authenticate import Authenticated


async def not_found(caller: Authenticated) -> Response:
    """Raise the 404; only a caller with a key gets it."""
    raise errors.unknown_route(caller.received.request.path)


openai_not_found = keyed(operations.NOT_FOUND)(not_found)
anthropic_not_found = keyed(operations.NOT_FOUND_ANTHROPIC)(not_found)
gemini_not_found = keyed(operations.NOT_FOUND_GEMINI)(not_found)

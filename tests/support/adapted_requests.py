"""Requests as a provider gets them: adapted to what it refuses, in its format."""

from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.adaptation import adapt
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Request
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS


def render_adapted(
    request: Request, destination: Destination, quirks: Quirks | None = None
) -> RenderedRequest:
    """Return the request that leaves, with all that `x-gateway-dropped` names."""
    adapted = adapt(request, destination)
    rendered: RenderedRequest = CODECS[destination.format].render_request(adapted.request, quirks or Quirks())
    rendered.dropped = list(dict.fromkeys([*adapted.changes, *rendered.dropped]))
    return rendered

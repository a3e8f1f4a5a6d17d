"""Rendered requests that are adapted to what their provider rejects."""

from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.adaptation import adapt
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Request
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.formats.tools.target import adapt_to_target


def render_adapted(
    request: Request, destination: Destination, quirks: Quirks | None = None
) -> RenderedRequest:
    """Return the rendered request, with the names of all dropped settings (`x-gateway-dropped`)."""
    codec, quirks = CODECS[destination.format], quirks or Quirks()
    request, left_out = adapt_to_target(request, codec.FORMAT, codec.server_tools_for(request, quirks))
    adapted = adapt(request, destination)
    rendered: RenderedRequest = codec.render_request(adapted.request, quirks)
    rendered.dropped = list(dict.fromkeys([*left_out, *adapted.changes, *rendered.dropped]))
    return rendered

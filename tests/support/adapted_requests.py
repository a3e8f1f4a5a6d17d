"""Rendered requests that are adapted to what their provider rejects."""

from proxy.formats.codec import ClientRequest, RenderedRequest
from proxy.formats.constraints.adaptation import adapt
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Request
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.formats.tools.target import adapt_to_target
from proxy.pipeline.conversion import ConvertedRequest, parse_request


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


def converted_request(
    client_request: ClientRequest, client_format: str, destination: Destination, quirks: Quirks | None = None
) -> ConvertedRequest:
    """Return the plan for a client's request to a provider of another format."""
    request = parse_request(client_request, client_format)
    return ConvertedRequest(client_request, client_format, request, destination, quirks or Quirks())

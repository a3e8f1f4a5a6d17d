"""Plans of converted requests. Unlike `adapted_requests`, this module needs the settings of Django."""

from proxy.formats.codec import ClientRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.quirks import Quirks
from proxy.pipeline.conversion import ConvertedRequest, parse_request


def converted_request(
    client_request: ClientRequest, client_format: str, destination: Destination, quirks: Quirks | None = None
) -> ConvertedRequest:
    """Return the plan for a client's request to a provider of another format."""
    request = parse_request(client_request, client_format)
    return ConvertedRequest(client_request, client_format, request, destination, quirks or Quirks())

"""The id of a request, which is in the response, the log and the usage record."""

from uuid import UUID

from projects.redaction import contains_key
from proxy.http.request import GatewayRequest

REQUEST_ID_HEADER = "x-request-id"
MAX_LENGTH = 128


def choose_request_id(request: GatewayRequest, id: UUID) -> str:
    """Return the client's request id if it is usable, else an id that contains `id`."""
    return client_request_id(request) or f"req_{id.hex}"


def client_request_id(request: GatewayRequest) -> str:
    """Return the client's request id, which is stored and logged.

    The result is empty if the id is too long, contains unprintable or non-ASCII characters, or contains an
    API key.
    """
    given = request.header(b"x-request-id")
    is_usable = len(given) <= MAX_LENGTH and given.isascii() and given.isprintable()
    return given if is_usable and not contains_key(given) else ""

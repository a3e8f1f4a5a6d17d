"""Calls to the provider of a candidate."""

from proxy.http.request import GatewayRequest
from proxy.operations import Operation
from proxy.routing.targets import Candidate, UpstreamRequest
from proxy.runtime import runtime
from proxy.upstream.errors import UpstreamConnectionError
from proxy.upstream.response import UpstreamResponse

FORWARDED_REQUEST_HEADERS = {
    "anthropic": (b"anthropic-version", b"anthropic-beta"),
    "openai_chat": (b"openai-beta",),
    "openai_responses": (b"openai-beta",),
}
"""Headers of a client that a provider of the same format gets."""


async def send(
    candidate: Candidate, upstream: UpstreamRequest, request: GatewayRequest, operation: Operation
) -> UpstreamResponse:
    """Send a request to its provider. Raises UpstreamError or BlockedURL."""
    account, model = candidate.target.account, candidate.target.model
    format = account.format_for(operation.format)
    headers = {"content-type": "application/json", "accept-encoding": "identity", **account.provider.headers}
    if format == operation.format:
        given = {name: request.header(name) for name in FORWARDED_REQUEST_HEADERS.get(format, ())}
        headers |= {name.decode(): value for name, value in given.items() if value}
    headers |= account.provider.auth_headers(account.secret or "")
    response = await runtime.clients[account.provider.client].post(
        account.url(format, upstream.path, model), upstream.body, headers, trusted=account.trusted
    )
    if not (200 <= response.status <= 203 or 400 <= response.status <= 599):
        raise UpstreamConnectionError(f"it responded with status {response.status}")
    return response


async def read_body(response: UpstreamResponse) -> bytes:
    """Return the whole body of a response, and end the call."""
    async with response:
        return await response.read()

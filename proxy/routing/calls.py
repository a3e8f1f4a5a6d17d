"""Calls to providers."""

import time
from collections.abc import Mapping

from proxy import trace_context
from proxy.http.request import GatewayRequest
from proxy.operations import Operation
from proxy.routing.accounts import Account
from proxy.routing.routes.latency import latency_averages
from proxy.routing.targets import Candidate, UpstreamRequest
from proxy.runtime import runtime
from proxy.upstream.errors import UpstreamConnectionError
from proxy.upstream.response import UpstreamResponse

FAILED = frozenset({408, 429, *range(500, 600)})
"""Statuses of a target that cannot serve requests at the moment."""
FORWARDED_REQUEST_HEADERS = {
    "anthropic": (b"anthropic-version", b"anthropic-beta"),
    "openai_chat": (b"openai-beta",),
    "openai_responses": (b"openai-beta",),
}
"""Request headers that are forwarded to a provider of the same format."""


async def send(
    candidate: Candidate, upstream: UpstreamRequest, request: GatewayRequest, operation: Operation
) -> UpstreamResponse:
    """Send a client's request to the provider of a candidate. Raises UpstreamError or BlockedURL."""
    account, model = candidate.target.account, candidate.target.model
    format = upstream.format or account.format_for(operation.format)
    forwarded = forwarded_headers(request, format) if format == operation.format else {}
    forwarded |= trace_context.upstream_headers(request)
    started_at = time.perf_counter()
    try:
        response = await call(
            account,
            format,
            upstream,
            model,
            forwarded,
            timeout_s=candidate.target.timeout_s,
            is_stream=candidate.plan.facts.stream,
        )
    except Exception:
        latency_averages.observe_failure(account, model)
        raise
    if response.status in FAILED:
        latency_averages.observe_failure(account, model)
    else:
        latency_averages.observe(account, model, time.perf_counter() - started_at)
    return response


def forwarded_headers(request: GatewayRequest, format: str) -> dict[str, str]:
    """Return the client's headers that are forwarded to a provider of the same format."""
    given = {name: request.header(name) for name in FORWARDED_REQUEST_HEADERS.get(format, ())}
    return {name.decode(): value for name, value in given.items() if value}


async def call(
    account: Account,
    format: str,
    upstream: UpstreamRequest,
    model: str = "",
    headers: Mapping[str, str] | None = None,
    *,
    timeout_s: float | None = None,
    is_stream: bool = False,
) -> UpstreamResponse:
    """Send a request to an account, in one of the account's formats. Raises UpstreamError or BlockedURL."""
    sent = {"content-type": "application/json", "accept-encoding": "identity", **account.provider.headers}
    sent |= headers or {}
    sent |= account.provider.auth_headers(account.secret or "")
    url = account.url(format, upstream.path, model)
    client = runtime.clients[account.provider.client]
    response = await client.request(
        upstream.method,
        url,
        upstream.body,
        sent,
        trusted=account.trusted,
        timeout_s=timeout_s,
        is_stream=is_stream,
    )
    is_deleted = response.status == 204 and upstream.method == "DELETE"
    if not (200 <= response.status <= 203 or is_deleted or 400 <= response.status <= 599):
        raise UpstreamConnectionError(f"it responded with status {response.status}", is_transient=False)
    return response


async def read_body(response: UpstreamResponse) -> bytes:
    """Return the whole body of a response, and end the call."""
    async with response:
        return await response.read()

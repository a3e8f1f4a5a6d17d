"""Test of a provider's URL and API key by a request that costs nothing, such as the list of models."""

import asyncio

from projects.outbound import validate_host
from projects.outbound_http import EXPECTED_FAILURES, failure_reason, safe_client
from projects.redaction import ELLIPSIS, redact
from proxy.formats.registry import CODECS
from proxy.providers.base_urls import normalize_base_url
from proxy.providers.provider import Provider

RESPONSE_TIMEOUT_S = 10.0
MAX_RESPONSE_BYTES = 64 * 1024
MAX_MESSAGE_LENGTH = 300


async def check(provider: Provider, base_url: str, secret: str) -> str:
    """Return why the provider does not accept the key; an empty string if it does.

    The reason contains the provider's own message, without the key.
    """
    url = f"{normalize_base_url(provider, base_url or provider.base_url)}{provider.check_path}"
    try:
        validate_host(url)
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            status, body = await fetch(url, provider, secret)
    except EXPECTED_FAILURES as error:
        return failure_reason(error, RESPONSE_TIMEOUT_S)
    reason = failure_of_response(provider, status, body)
    return printable(redact(reason.replace(secret, ELLIPSIS) if secret else reason))


async def fetch(url: str, provider: Provider, secret: str) -> tuple[int, bytes]:
    """Return the status and the start of the body. Raises one of EXPECTED_FAILURES."""
    headers = {"accept-encoding": "identity", **provider.headers, **provider.auth_headers(secret)}
    body = bytearray()
    async with (
        safe_client(RESPONSE_TIMEOUT_S) as client,
        client.stream("GET", url, headers=headers) as response,
    ):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= MAX_RESPONSE_BYTES:
                break
    return response.status_code, bytes(body)


def failure_of_response(provider: Provider, status: int, body: bytes) -> str:
    """Return the provider's error, or an empty string if the request succeeded."""
    if 200 <= status < 300:
        return ""
    if status < 400:
        return f"{provider.name} redirects to another URL (status {status}), which is not followed"
    message = CODECS[next(iter(provider.base_urls))].parse_error(status, body).message
    return f"{provider.name} responded with status {status}: {message}"


def printable(reason: str) -> str:
    """Return the reason, shortened, with spaces in place of characters that a database may not store."""
    text = "".join(character if character.isprintable() else " " for character in reason)
    return f"{text[:MAX_MESSAGE_LENGTH]}{ELLIPSIS}" if len(text) > MAX_MESSAGE_LENGTH else text

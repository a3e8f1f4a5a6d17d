"""Sign and send webhooks according to the Standard Webhooks specification 1.0.

Source: github.com/standard-webhooks. The signature is an HMAC-SHA256 of `id.timestamp.body`. A delivery
succeeds if the receiver responds with a status of 2xx. Redirects are not followed and count as failures. The
body of the response is not read.
"""

import asyncio
import base64
import hmac
import time
from dataclasses import dataclass
from uuid import UUID

import httpx
import msgspec
import structlog

from projects.outbound import BlockedURL, resolve_public

CONNECT_TIMEOUT_S = 5.0
RESPONSE_TIMEOUT_S = 10.0
HTTP_GONE = 410
USER_AGENT = "ai-gateway-webhooks/1"
UNEXPECTED_ERROR = "an unexpected error in the gateway; the operator finds it in the log"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of an attempt.

    An empty `failure_reason` means success. A permanent failure is not retried.
    """

    failure_reason: str = ""
    is_permanent: bool = False


def sign(id: UUID, url: str, payload: object, key: bytes) -> SignedWebhook:
    """Sign a message. Its timestamp is the current time, because receivers reject old timestamps."""
    message_id, timestamp, body = f"msg_{id.hex}", str(int(time.time())), msgspec.json.encode(payload)
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(key, message_id, timestamp, body),
    }
    return SignedWebhook(url, headers, body)


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


async def send_all(messages: list[SignedWebhook]) -> list[DeliveryResult]:
    timeout = httpx.Timeout(RESPONSE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(
        transport=SSRFSafeTransport(), timeout=timeout, trust_env=False, follow_redirects=False
    ) as client:
        return list(await asyncio.gather(*(send(client, message) for message in messages)))


async def send(client: httpx.AsyncClient, message: SignedWebhook) -> DeliveryResult:
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            async with client.stream(
                "POST", message.url, content=message.body, headers=message.headers
            ) as response:
                return result_for_status(response.status_code)
    except BlockedURL as error:
        return DeliveryResult(str(error))
    except (TimeoutError, httpx.TimeoutException):
        return DeliveryResult(f"no response within {RESPONSE_TIMEOUT_S:.0f} seconds")
    except httpx.ConnectError as error:
        return DeliveryResult(f"connection failed: {error}")
    except httpx.RemoteProtocolError:
        return DeliveryResult("the response is not valid HTTP")
    except httpx.InvalidURL:
        return DeliveryResult("the URL is not valid")
    except httpx.HTTPError as error:
        return DeliveryResult(f"the connection was interrupted: {type(error).__name__}")
    except Exception as error:
        # An error of one receiver must not stop the messages to the others.
        log.error(
            "webhook_delivery_failed",
            message="A webhook could not be sent. It is retried unless this was its last attempt.",
            message_id=message.headers["webhook-id"],
            exc_info=error,
        )
        return DeliveryResult(UNEXPECTED_ERROR)


def result_for_status(status: int) -> DeliveryResult:
    if 200 <= status < 300:
        return DeliveryResult()
    if 300 <= status < 400:
        return DeliveryResult(f"the response was a redirect (status {status}), which is not followed")
    return DeliveryResult(f"the response had status {status}", is_permanent=status == HTTP_GONE)


class SSRFSafeTransport(httpx.AsyncHTTPTransport):
    """Resolves a host once, and connects only to the addresses that the SSRF guard has checked.

    TLS verifies the certificate for the host name in the URL, not for the IP address.
    """

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii").strip("[]")
        extensions = {**request.extensions, "sni_hostname": host}
        try:
            addresses = await resolve_public(host)
        except OSError as error:
            raise httpx.ConnectError(f"{host} cannot be resolved") from error
        failure: httpx.ConnectError | None = None
        for address in addresses:
            pinned = httpx.Request(
                request.method,
                request.url.copy_with(host=address.ip),
                headers=request.headers,
                stream=request.stream,
                extensions=extensions,
            )
            try:
                return await super().handle_async_request(pinned)
            except httpx.ConnectError as error:
                failure = error
        raise failure or httpx.ConnectError(f"{host} has no address")

"""Signed messages over HTTP, after the Standard Webhooks specification 1.0 (github.com/standard-webhooks).

The signature is an HMAC-SHA256 over `id.timestamp.body`. An answer of 2xx is success; redirects are failures, and of the
answer nothing but its status is read.
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
UNEXPECTED_ERROR = "the gateway could not send it; its log says why"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SignedWebhook:
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """Why an attempt failed, in words that fit into a sentence; empty where it did not. `is_permanent`: no other will do better."""

    failure_reason: str = ""
    is_permanent: bool = False


def sign(id: UUID, url: str, payload: object, key: bytes) -> SignedWebhook:
    """The timestamp is that of the attempt: receivers refuse old ones."""
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
        return DeliveryResult(f"it did not answer within {RESPONSE_TIMEOUT_S:.0f} seconds")
    except httpx.ConnectError as error:
        return DeliveryResult(f"no connection: {error}")
    except httpx.RemoteProtocolError:
        return DeliveryResult("what it answered is not HTTP")
    except httpx.InvalidURL:
        return DeliveryResult("its address is not valid")
    except httpx.HTTPError as error:
        return DeliveryResult(f"the connection broke: {type(error).__name__}")
    except Exception as error:
        # One address must not keep back the messages to all others.
        log.error("a webhook cannot be called", message_id=message.headers["webhook-id"], exc_info=error)
        return DeliveryResult(UNEXPECTED_ERROR)


def result_for_status(status: int) -> DeliveryResult:
    if 200 <= status < 300:
        return DeliveryResult()
    if 300 <= status < 400:
        return DeliveryResult(f"it answered with a redirect (status {status}), which is not followed")
    return DeliveryResult(f"it answered with status {status}", is_permanent=status == HTTP_GONE)


class SSRFSafeTransport(httpx.AsyncHTTPTransport):
    """Resolves, checks and connects in one step: the address that was checked is the one that is connected to, and the name
    stays what the certificate must be for.
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
        raise failure or httpx.ConnectError("the name has no address")

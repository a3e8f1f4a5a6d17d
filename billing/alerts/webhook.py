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

from projects.outbound_http import EXPECTED_FAILURES, failure_reason, safe_client

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
    async with safe_client(RESPONSE_TIMEOUT_S) as client:
        return list(await asyncio.gather(*(send(client, message) for message in messages)))


async def send(client: httpx.AsyncClient, message: SignedWebhook) -> DeliveryResult:
    try:
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            async with client.stream(
                "POST", message.url, content=message.body, headers=message.headers
            ) as response:
                return result_for_status(response.status_code)
    except EXPECTED_FAILURES as error:
        return DeliveryResult(failure_reason(error, RESPONSE_TIMEOUT_S))
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

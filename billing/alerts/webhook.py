"""Signed messages over HTTP, after the Standard Webhooks specification 1.0 (github.com/standard-webhooks).

The signature is an HMAC-SHA256 over `id.timestamp.body`. An answer of 2xx is success; redirects are failures, and of the
answer nothing but its status is read.
"""

import asyncio
import base64
import hmac
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import msgspec
import structlog

from projects.addresses import BadAddress, check_ip

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0
GONE = 410
USER_AGENT = "ai-gateway-webhooks/1"
UNFORESEEN = "the gateway could not send it; its log says why"
RESOLVERS = ThreadPoolExecutor(100, "webhook-names")
"""Threads that ask for names: the end of an event loop waits for those of its own, and a name server that hangs would hold up the round
for longer than any answer is waited for."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Outgoing:
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """Why an attempt failed, in words that fit into a sentence; empty where it did not. `final`: no other will do better."""

    reason: str = ""
    final: bool = False


def sign(id: UUID, url: str, payload: object, key: bytes) -> Outgoing:
    """The timestamp is that of the attempt: receivers refuse old ones."""
    message_id, timestamp, body = f"msg_{id.hex}", str(int(time.time())), msgspec.json.encode(payload)
    headers = {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(key, message_id, timestamp, body),
    }
    return Outgoing(url, headers, body)


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


async def post_all(messages: list[Outgoing]) -> list[Result]:
    timeout = httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(transport=GuardedTransport(), timeout=timeout, trust_env=False, follow_redirects=False) as client:
        return list(await asyncio.gather(*(post(client, message) for message in messages)))


async def post(client: httpx.AsyncClient, message: Outgoing) -> Result:
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            async with client.stream("POST", message.url, content=message.body, headers=message.headers) as response:
                return judge(response.status_code)
    except BadAddress as error:
        return Result(str(error))
    except (TimeoutError, httpx.TimeoutException):
        return Result(f"it did not answer within {ANSWER_TIMEOUT_S:.0f} seconds")
    except httpx.ConnectError as error:
        return Result(f"no connection: {error}")
    except httpx.RemoteProtocolError:
        return Result("what it answered is not HTTP")
    except httpx.InvalidURL:
        return Result("its address is not valid")
    except httpx.HTTPError as error:
        return Result(f"the connection broke: {type(error).__name__}")
    except Exception as error:
        # One address must not keep back the messages to all others.
        log.error("a webhook cannot be called", message_id=message.headers["webhook-id"], exc_info=error)
        return Result(UNFORESEEN)


def judge(status: int) -> Result:
    if 200 <= status < 300:
        return Result()
    if 300 <= status < 400:
        return Result(f"it answered with a redirect (status {status}), which is not followed")
    return Result(f"it answered with status {status}", final=status == GONE)


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Resolves, checks and connects in one step: the address that was checked is the one that is connected to, and the name
    stays what the certificate must be for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii").strip("[]")
        extensions = {**request.extensions, "sni_hostname": host}
        failure: httpx.ConnectError | None = None
        for address in await resolve(host):
            pinned = httpx.Request(
                request.method, request.url.copy_with(host=address), headers=request.headers, stream=request.stream, extensions=extensions
            )
            try:
                return await super().handle_async_request(pinned)
            except httpx.ConnectError as error:
                failure = error
        raise failure or httpx.ConnectError("the name has no address")


async def resolve(host: str) -> list[str]:
    """All addresses of a name, each of them one that tenants may send requests to; raises BadAddress."""
    try:
        found = await asyncio.get_running_loop().run_in_executor(RESOLVERS, look_up, host)
    except (OSError, UnicodeError) as error:
        raise httpx.ConnectError(f"{host} cannot be resolved") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    for address in addresses:
        check_ip(host, address.partition("%")[0])
    return addresses


def look_up(host: str) -> list[tuple[Any, ...]]:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)

"""HTTP requests of unusual clients on raw sockets: upgrade offers, old versions, odd targets."""

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.gateway_server import GatewayProcess

CHAT = b'{"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}'
STREAM = CHAT[:-1] + b', "stream": true}'
H2C = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAA\r\n"
)
"""What the HTTP client of the JDK sends with its first request, over plain http."""
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
OFFERS = {
    "h2c": H2C,
    "h2c without settings": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "websocket": WEBSOCKET,
    "websocket alone": b"connection: upgrade\r\nupgrade: WebSocket\r\n",
    "several": b"Upgrade: h2c, websocket\r\nConnection: keep-alive, Upgrade\r\n",
    "two fields": b"Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
    "connection only": b"Connection: upgrade\r\n",
    "upgrade only": b"Upgrade: h2c\r\n",
    "none": b"",
}
PROMPT_S = 5
"""If a response takes longer than this, it waits for data that never arrives."""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, dict[str, str]]:
        value: dict[str, dict[str, str]] = json.loads(self.body)
        return value


class RawClient:
    """A connection to the gateway."""

    def __init__(self, gateway: GatewayProcess, token: str) -> None:
        self.authorization = b"Host: localhost\r\nAuthorization: Bearer %s\r\n" % token.encode()
        self.socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=PROMPT_S)
        self.stream = self.socket.makefile("rb")

    def send(self, *parts: bytes) -> None:
        for part in parts:
            self.socket.sendall(part)
            time.sleep(0.02)

    def head(self, line: bytes, fields: bytes = b"") -> bytes:
        return line + b"\r\n" + self.authorization + fields + b"\r\n"

    def post(self, fields: bytes = b"", body: bytes = CHAT, path: bytes = b"/v1/chat/completions") -> bytes:
        length = b"Content-Length: %d\r\n" % len(body)
        return self.head(b"POST %s HTTP/1.1" % path, fields + length) + body

    def receive_head(self) -> tuple[int, dict[str, str]]:
        """Return status and headers of the next response, which is all of it for HEAD."""
        status = int(self.stream.readline().split()[1])
        headers = {}
        while line := self.stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers

    def receive(self) -> Reply:
        """Return the next response."""
        status, headers = self.receive_head()
        if "content-length" in headers:
            return Reply(status, headers, self.stream.read(int(headers["content-length"])))
        if headers.get("transfer-encoding") == "chunked":
            return Reply(status, headers, b"".join(self.chunks()))
        return Reply(status, headers, b"" if status < 200 else self.stream.read())

    def chunks(self) -> Iterator[bytes]:
        while size := int(self.stream.readline(), 16):
            yield self.stream.read(size)
            self.stream.readline()
        self.stream.readline()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(made_directory(tmp_path_factory.mktemp("edges") / "data")).start()
    yield gateway
    gateway.stop()
    assert "Traceback" not in gateway.output.read_text()


def made_directory(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def server_token(server: GatewayProcess) -> str:
    return server.demo_key()


@pytest.fixture
def client(server: GatewayProcess, server_token: str) -> Iterator[RawClient]:
    client = RawClient(server, server_token)
    yield client
    client.stream.close()
    client.socket.close()


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_an_offer_to_switch_protocols_does_not_lose_the_body(client: RawClient, offer: bytes) -> None:
    client.send(client.post(offer))
    reply = client.receive()
    assert reply.status == 200 and reply.json["object"] == "chat.completion"  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_a_chunked_body_in_packets_of_its_own_is_read_too(client: RawClient, offer: bytes) -> None:
    head = client.head(b"POST /v1/chat/completions HTTP/1.1", offer + b"Transfer-Encoding: chunked\r\n")
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (CHAT[:5], CHAT[5:])]
    client.send(head[:70], head[70:-3], head[-3:], *chunks, b"0\r\n\r\n")
    assert client.receive().status == 200


@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
def test_the_connection_stays_usable_after_an_ignored_offer(client: RawClient, offer: bytes) -> None:
    pipelined = client.post(offer) + client.post() + client.post(offer)
    client.send(pipelined)
    assert [client.receive().status for _ in range(3)] == [200, 200, 200]
    client.send(client.head(b"GET /health HTTP/1.1"))
    assert client.receive().json["status"] == "healthy"  # type: ignore[comparison-overlap]


def test_a_body_after_an_offer_is_not_taken_for_a_request(client: RawClient) -> None:
    client.send(client.post(H2C, b"GET /health HTTP/1.1\r\nHost: y\r\n\r\n"))
    assert client.receive().status == 400
    client.send(client.head(b"GET /ready HTTP/1.1"))
    assert client.receive().json["status"] == "ready"  # type: ignore[comparison-overlap]


def test_thousands_of_offers_in_one_packet_are_answered(client: RawClient) -> None:
    count = 2000
    client.socket.sendall(
        client.head(b"GET /health HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: h2c\r\n") * count
    )
    assert {client.receive().status for _ in range(count)} == {200}


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/responses",
        b"/v1/responses/",
        b"/openai/v1/responses",
        b"/responses",
        b"/v1/v1/responses",
        b"/openai/responses?api-version=preview",
        b"/v1/chat/completions",
    ],
)
def test_a_websocket_is_a_426_in_json_at_once(client: RawClient, path: bytes) -> None:
    client.send(client.head(b"GET %s HTTP/1.1" % path, WEBSOCKET))
    reply = client.receive()
    assert (reply.status, reply.headers["upgrade"]) == (426, "HTTP/1.1")
    assert (
        reply.json["error"]["code"] == "websockets_unsupported" and "POST" in reply.json["error"]["message"]
    )
    client.send(client.post())
    assert client.receive().status == 200


@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1beta/models/demo/chat:generateContent"])
def test_a_426_is_in_the_format_of_its_api(client: RawClient, path: bytes) -> None:
    client.send(client.head(b"GET %s HTTP/1.1" % path, WEBSOCKET))
    reply = client.receive()
    assert reply.status == 426 and (b'"type":"error"' in reply.body or b'"INVALID_ARGUMENT"' in reply.body)


@pytest.mark.parametrize("path", [b"/v1/models", b"/health", b"/v1/realtime?model=x"])
def test_other_gateway_routes_ignore_the_offer_of_a_websocket(client: RawClient, path: bytes) -> None:
    client.send(client.head(b"GET %s HTTP/1.1" % path, WEBSOCKET))
    reply = client.receive()
    assert reply.status == (404 if b"realtime" in path else 200) and reply.json


def test_a_websocket_without_a_key_is_a_401(server: GatewayProcess, client: RawClient) -> None:
    client.send(b"GET /v1/responses HTTP/1.1\r\nHost: x\r\n" + WEBSOCKET + b"\r\n")
    assert client.receive().status == 401


def test_a_websocket_of_a_page_reaches_the_application(client: RawClient) -> None:
    """No page has a WebSocket yet, so the application rejects the handshake."""
    client.send(client.head(b"GET /live/ HTTP/1.1", WEBSOCKET))
    assert client.receive().status == 403


def test_a_form_behind_a_proxy_that_always_offers_a_websocket_is_answered(client: RawClient) -> None:
    client.send(client.post(WEBSOCKET, b"a=b", b"/accounts/login/"))
    assert client.receive().status == 403


@pytest.mark.parametrize("offer", [b"", H2C], ids=["plain", "h2c"])
def test_a_client_that_waits_for_permission_to_send_its_body_gets_it(client: RawClient, offer: bytes) -> None:
    message = client.post(offer + b"Expect: 100-continue\r\n")
    client.send(message.removesuffix(CHAT))
    assert client.receive().status == 100
    client.send(CHAT)
    assert client.receive().status == 200


@pytest.mark.parametrize("offer", [b"", H2C], ids=["plain", "h2c"])
def test_a_client_of_http_1_0_gets_no_chunks(client: RawClient, offer: bytes) -> None:
    length = b"Content-Length: %d\r\n" % len(STREAM)
    client.send(client.head(b"POST /v1/chat/completions HTTP/1.0", offer + length) + STREAM)
    reply = client.receive()
    assert reply.status == 200 and "transfer-encoding" not in reply.headers
    assert reply.headers["connection"] == "close"
    assert reply.body.startswith(b"data: {") and reply.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("path", [b"/v1/models", b"/", b"/accounts/login/", b"/health"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_http_1_0_is_answered_in_full(client: RawClient, method: bytes, path: bytes) -> None:
    client.send(client.head(b"%s %s HTTP/1.0" % (method, path)))
    reply = client.receive() if method == b"GET" else Reply(*client.receive_head(), client.stream.read())
    assert reply.status == 200 and bool(reply.body) == (method == b"GET")


@pytest.mark.parametrize(
    "path", [b"/", b"/v1/models", b"/v1/models/demo/chat", b"/health", b"/ready", b"/metrics"]
)
def test_head_is_get_without_the_body(client: RawClient, path: bytes) -> None:
    client.send(client.head(b"HEAD %s HTTP/1.1" % path))
    status, headers = client.receive_head()
    client.send(client.head(b"GET %s HTTP/1.1" % path))
    got = client.receive()
    assert (status, headers["content-type"]) == (got.status, got.headers["content-type"])
    assert status == 200 and got.body


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://gateway.example/v1/models", 200),
        (b"HTTP://gateway.example:80/v1/models?limit=5", 200),
        (b"http://gateway.example", 200),
        (b"http://gateway.example?x=http://other", 200),
        (b"//v1/models", 200),
        (b"///v1//models//", 200),
        (b"/v1/models?next=http://other", 200),
        (b"/v1/models/demo%2Fchat", 200),
        (b"*", 404),
    ],
)
def test_targets_in_any_form_are_understood(client: RawClient, target: bytes, status: int) -> None:
    method = b"OPTIONS" if target == b"*" else b"GET"
    client.send(client.head(b"%s %s HTTP/1.1" % (method, target)))
    assert client.receive().status == status


@pytest.mark.parametrize(
    "fields", [b"", b"Content-Type: text/plain\r\n", b"Content-Type: application/x-www-form-urlencoded\r\n"]
)
def test_the_content_type_of_a_request_does_not_matter(client: RawClient, fields: bytes) -> None:
    client.send(client.post(fields))
    assert client.receive().status == 200


def test_connect_is_answered_in_json(client: RawClient) -> None:
    client.send(client.head(b"CONNECT /v1/models HTTP/1.1"))
    reply = client.receive()
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")

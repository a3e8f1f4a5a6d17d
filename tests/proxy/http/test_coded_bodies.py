"""Compressed requests: the provider gets the decoded body, and errors are JSON."""

import gzip
import json
import sys
import zlib
from collections.abc import Callable

import brotli
import httpx
import pytest

from billing.models import UsageRecord
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


CHAT = b'{"model": "openai/m", "messages": [{"role": "user", "content": "Hi"}]}'
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": lambda data: bytes(brotli.compress(data, quality=1)),
    "zstd": zstd.compress,
    "gzip, zstd": lambda data: zstd.compress(gzip.compress(data)),
    "identity": lambda data: data,
    "": lambda data: data,
}
MESSAGE = b'{"role": "user", "content": "Hi"}'
ROUTES = {
    "/v1/chat/completions": b'{"model": "demo/chat", "messages": [%s]}' % MESSAGE,
    "/v1/responses": b'{"model": "demo/chat", "input": "Hi"}',
    "/v1/messages": b'{"model": "demo/chat", "max_tokens": 5, "messages": [%s]}' % MESSAGE,
    "/v1/messages/count_tokens": b'{"model": "demo/chat", "messages": [%s]}' % MESSAGE,
    "/v1/embeddings": b'{"model": "demo/embed", "input": "Hi"}',
    "/v1beta/models/demo/chat:generateContent": b'{"contents": [{"role": "user", "parts": [{"text": "a"}]}]}',
}


def post(
    gateway: httpx.Client, coding: str, body: bytes, path: str = "/v1/chat/completions"
) -> httpx.Response:
    return gateway.post(path, content=body, headers={"content-encoding": coding})


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("path", ROUTES)
def test_every_api_accepts_every_coding(gateway: httpx.Client, path: str, coding: str) -> None:
    assert post(gateway, coding, ENCODERS[coding](ROUTES[path]), path).status_code == 200


@pytest.mark.parametrize("coding", ENCODERS)
def test_the_provider_gets_the_decoded_body(
    gateway: httpx.Client, upstream: LocalUpstream, coding: str
) -> None:
    assert post(gateway, coding, ENCODERS[coding](CHAT)).status_code == 200
    (received,) = upstream.requests
    assert json.loads(received.body) == json.loads(CHAT) | {"model": "m"}
    assert "content-encoding" not in received.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", '"type":"invalid_request"'),
        ("/v1/messages", '"type":"invalid_request_error"'),
        ("/v1beta/models/demo/chat:generateContent", '"status":"INVALID_ARGUMENT"'),
    ],
)
@pytest.mark.parametrize("coding", ["compress", "aes128gcm", "gzip, utf-8"])
def test_an_unknown_coding_is_a_415_that_names_the_known_ones(
    gateway: httpx.Client, path: str, kind: str, coding: str
) -> None:
    response = post(gateway, coding, CHAT, path)
    assert (response.status_code, response.headers["accept-encoding"]) == (415, "gzip, deflate, br, zstd")
    assert kind in response.text and coding.rpartition(" ")[2] in response.text and "zstd" in response.text
    assert only_record().status_code == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("body", [CHAT, b"garbage", b"\x1f\x8b"])
def test_a_corrupt_body_is_a_400_that_names_the_coding(
    gateway: httpx.Client, upstream: LocalUpstream, coding: str, body: bytes
) -> None:
    response = post(gateway, coding, body)
    assert response.status_code == 400 and f"not valid {coding}" in response.json()["error"]["message"]
    assert not upstream.requests


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_a_413(gateway: httpx.Client, coding: str) -> None:
    bomb = ENCODERS[coding](bytes(100 * 2**20))
    assert len(bomb) < 2**21
    response = post(gateway, coding, bomb)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")
    assert only_record().status_code == 413


def test_a_client_without_a_key_cannot_make_the_gateway_decode(
    live_gateway: LiveGateway, transactional_db: None
) -> None:
    response = httpx.post(
        f"{live_gateway.url}/v1/chat/completions", content=b"garbage", headers={"content-encoding": "gzip"}
    )
    assert response.status_code == 401 and not UsageRecord.objects.exists()


def test_an_empty_coded_body_is_an_empty_body(gateway: httpx.Client) -> None:
    response = post(gateway, "gzip", b"")
    assert response.status_code == 400 and "no body" in response.json()["error"]["message"]


def test_a_repeated_request_is_the_same_in_another_coding(gateway: httpx.Client) -> None:
    key = {"idempotency-key": "one"}
    body = ROUTES["/v1/chat/completions"]
    plain = gateway.post("/v1/chat/completions", content=body, headers=key)
    coded = gateway.post(
        "/v1/chat/completions", content=gzip.compress(body), headers={**key, "content-encoding": "gzip"}
    )
    assert plain.content == coded.content and coded.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_byte_order_mark_is_left_out(gateway: httpx.Client, upstream: LocalUpstream, coding: str) -> None:
    body = b"\xef\xbb\xbf" + CHAT.replace(b"openai/", b"")
    assert post(gateway, coding, ENCODERS[coding](body)).status_code == 200
    (received,) = upstream.requests
    assert received.body.startswith(b"{")

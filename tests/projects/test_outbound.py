"""SSRF guard: tenants' URLs are checked when they are stored, and again when a connection is opened."""

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from aiohttp import web
from django.conf import settings

from billing.models import Outcome
from keys.models import ApiKey
from projects.models import Project
from projects.outbound import BlockedURL, allowed_private_hosts, validate_base_url
from proxy import errors
from proxy.models import Credential
from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.errors import UpstreamConnectionError
from proxy.upstream.resolver import SSRFSafeResolver
from proxy.upstream.timeouts import Timeouts
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream


@pytest.fixture
def no_private_hosts() -> Iterator[None]:
    before = settings.ENV
    settings.ENV = before.model_copy(update={"gateway_private_upstreams": ()})
    yield
    settings.ENV = before


@pytest.fixture
async def connections() -> AsyncIterator[HttpUpstreamClient]:
    upstream = HttpUpstreamClient(Timeouts(first_chunk_s=1, idle_s=1))
    yield upstream
    await upstream.close()


PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "192.168.0.1",
    "172.16.0.1",
    "169.254.169.254",
    "0.0.0.0",
    "[::1]",
    "[fd00::1]",
    "[::ffff:127.0.0.1]",
    "100.64.0.1",
    "１２７.0.0.1",
    "127。0。0。1",
    "[64:ff9b::10.0.0.1]",
    "[64:ff9b:1::a00:1]",
    "[::ffff:0:10.0.0.1]",
    "[2002:7f00:1::]",
    "[2001:0:4136:e378:8000:63bf:80ff:fffe]",
    "[::127.0.0.1]",
]


PUBLIC = [
    "http://[64:ff9b::8.8.8.8]/",
    "http://[2002:808:808::]/",
    "https://1password.example",
    "https://bücher.example",
    "http://0xcafe.example",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_private_address_is_rejected_as_base_url(no_private_hosts: None, host: str) -> None:
    with pytest.raises(BlockedURL, match="private address"):
        validate_base_url(f"http://{host}/v1")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/v1",
        "http:///v1",
        "http://user:pw@example.org",
        "http://:pw@example.org",
        "https://example.org/?a=b",
        "https://example.org/#x",
        "x",
        "file:///etc",
        "http://[",
        "http://x:99999/",
        "http://x:abc/",
        "http://exa mple/",
        "http://127.0.0%2e1/",
    ],
)
def test_non_http_url_is_rejected(url: str) -> None:
    with pytest.raises(BlockedURL, match=r"Enter an? (http or https )?URL"):
        validate_base_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0X7F.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.1.",
        "8.8",
        "999.1.1.1",
        "1.2.3.4.5",
    ],
)
def test_unusual_numeric_host_is_rejected(host: str) -> None:
    with pytest.raises(BlockedURL, match="is not a valid IP address"):
        validate_base_url(f"http://{host}/v1")


LONGEST_NAME = ".".join(["a" * 63] * 3 + ["b" * 61])
INVALID_NAMES = [
    "a..b",
    ".example.com",
    "nowhere.invalid..",
    ".",
    "a" * 64 + ".example",
    f"{LONGEST_NAME}b",
    "a.b" * 100,
    "example。。com",
    "ü" * 60 + ".de",
]


@pytest.mark.parametrize("host", INVALID_NAMES)
def test_unresolvable_name_is_rejected(host: str) -> None:
    with pytest.raises(BlockedURL, match="Enter a"):
        validate_base_url(f"http://{host}/v1")


@pytest.mark.parametrize(
    "host",
    [
        LONGEST_NAME,
        f"{LONGEST_NAME}.",
        "example.com.",
        "a_b.example",
        "xn--bcher-kva.example",
        "ü" * 50 + ".de",
    ],
)
def test_a_name_as_long_as_names_can_be_passes(host: str) -> None:
    validate_base_url(f"http://{host}/v1")


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("host", INVALID_NAMES)
async def test_stored_unresolvable_name_is_a_connection_error(
    connections: HttpUpstreamClient, monkeypatch: pytest.MonkeyPatch, host: str, trusted: bool
) -> None:
    monkeypatch.setattr("proxy.upstream.client.validate_host", lambda _url: None)
    with pytest.raises(UpstreamConnectionError) as rejected:
        await connections.request("POST", f"http://{host}/v1", b"{}", {}, trusted=trusted)
    assert not rejected.value.may_be_billed
    assert errors.from_exception(rejected.value).status == 502


@pytest.mark.parametrize(
    ("path", "format"), [("/v1/chat/completions", "openai"), ("/anthropic/v1/messages", "anthropic")]
)
def test_unresolvable_name_is_a_502_in_the_client_format(
    live_gateway: LiveGateway, demo_project: Project, path: str, format: str
) -> None:
    Credential.objects.create(
        project=demo_project, slug="lost", provider="compatible", base_url="https://a..b/v1"
    )
    _, token = ApiKey.objects.issue(demo_project, "app")
    question = {"model": "lost/x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    answer = httpx.post(f"{live_gateway.url}{path}", json=question, headers={"x-api-key": token})
    assert answer.status_code == 502
    assert answer.json().get("type") == ("error" if format == "anthropic" else None)
    assert (only_record().outcome, only_record().cost_nano) == (Outcome.UPSTREAM_ERROR, 0)


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "http://127.1/", "ftp://x", "http://a..b"])
def test_the_reason_fits_into_a_sentence(no_private_hosts: None, url: str) -> None:
    with pytest.raises(BlockedURL) as rejected:
        validate_base_url(url)
    assert not errors.from_exception(rejected.value).api_error.message.endswith("..")


@pytest.mark.parametrize(
    "url", ["https://api.openai.com/v1", "http://ollama:11434/v1", "http://8.8.8.8", *PUBLIC]
)
def test_public_addresses_and_names_pass(no_private_hosts: None, url: str) -> None:
    validate_base_url(url)


@pytest.mark.parametrize(
    ("host", "public_url", "allowed"),
    [
        ("127.0.0.1", "", True),
        ("::1", "http://127.0.0.1:8080", True),
        ("127.0.0.1", "https://gateway.example", False),
        ("0.0.0.0", "", False),
    ],
)
def test_loopback_is_allowed_only_without_a_public_url(host: str, public_url: str, allowed: bool) -> None:
    before = settings.ENV
    settings.ENV = before.model_copy(update={"gateway_host": host, "gateway_public_url": public_url})
    try:
        assert [name in allowed_private_hosts() for name in ("localhost", "127.0.0.1", "::1")] == [
            allowed
        ] * 3
    finally:
        settings.ENV = before


async def test_base_url_may_have_a_query(connections: HttpUpstreamClient) -> None:
    with pytest.raises(UpstreamConnectionError):
        await connections.request("POST", "http://127.0.0.1:1/v1?api-version=1", b"{}", {}, trusted=False)


def test_the_operator_can_allow_a_private_host() -> None:
    before = settings.ENV
    settings.ENV = before.model_copy(update={"gateway_private_upstreams": ("10.1.2.3",)})
    try:
        validate_base_url("http://10.1.2.3:8000/v1")
        with pytest.raises(BlockedURL):
            validate_base_url("http://10.1.2.4:8000/v1")
    finally:
        settings.ENV = before


async def test_a_name_that_resolves_to_a_private_address_is_not_connected_to(
    no_private_hosts: None, connections: HttpUpstreamClient
) -> None:
    with pytest.raises(BlockedURL):
        await SSRFSafeResolver().resolve("localhost", 80)
    with pytest.raises((BlockedURL, UpstreamConnectionError)):
        await connections.request("POST", "http://localhost:1/v1", b"{}", {}, trusted=False)


async def test_a_redirect_is_not_followed(connections: HttpUpstreamClient, upstream: LocalUpstream) -> None:
    async def redirect(_request: web.Request, _body: object) -> web.StreamResponse:
        return web.Response(status=307, headers={"location": "/elsewhere"})

    upstream.handler = redirect
    async with await connections.request(
        "POST", f"{upstream.url}/chat/completions", b"{}", {}, trusted=True
    ) as reply:
        assert reply.status == 307
    assert [call.path for call in upstream.requests] == ["/v1/chat/completions"]

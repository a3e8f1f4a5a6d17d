"""Requests without a valid key are limited by client network. Valid keys from this network are not."""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_network

import httpx
import pytest
from prometheus_client import REGISTRY

from keys import auth_throttle
from keys.auth_throttle import AuthThrottle, TooManyFailures, auth_failures
from keys.authentication import Principal, principals
from keys.models import ApiKey
from keys.tokens import Token
from projects import config_cache
from projects.models import Project
from proxy.http.client_ip import client_ip
from tests.support.live_gateway import LiveGateway
from tests.support.upstream_server import LocalUpstream

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("new_window")]

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
PATH = "/v1/chat/completions"


def post(live: LiveGateway, key: str, path: str = PATH, **headers: str) -> httpx.Response:
    return httpx.post(live.url + path, json=CHAT, headers={"x-api-key": key, "x-request-id": "r", **headers})


def outcome_count(outcome: str) -> float:
    return REGISTRY.get_sample_value("gateway_outcomes_total", {"outcome": outcome}) or 0


async def send_many(url: str, keys: list[str]) -> list[httpx.Response]:
    """Send one request with each key, twenty at a time."""
    unsent = list(keys)
    responses: list[httpx.Response] = []

    async def send_in_turn() -> None:
        while unsent:
            headers = {"x-api-key": unsent.pop(), "x-request-id": "r"}
            responses.append(await client.post(PATH, json=CHAT, headers=headers))

    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        await asyncio.gather(*(send_in_turn() for _ in range(20)))
    return responses


def test_many_invalid_keys_are_throttled_while_valid_keys_work(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    key, token = ApiKey.objects.issue(demo_project, "good")
    revoked, stolen = ApiKey.objects.issue(demo_project, "revoked")
    revoked.revoke()
    before = outcome_count("rate")
    kinds = (
        lambda: str(Token.generate()),
        lambda: "sk-nonsense",
        lambda: stolen,
        lambda: str(Token(key.public_id, "x" * 32)),
    )
    responses = asyncio.run(send_many(live_gateway.url, [kinds[number % 4]() for number in range(1000)]))
    throttled = [response for response in responses if response.status_code == 429]
    assert sum(response.status_code == 401 for response in responses) == 300 and len(throttled) == 700
    assert outcome_count("rate") == before + 700
    assert len({response.content for response in throttled}) == 1
    assert len({response.content for response in responses}) == 2
    assert all(0 < int(response.headers["retry-after"]) <= 60 for response in throttled)
    assert post(live_gateway, token).status_code == 200


def test_the_error_has_the_client_format(
    live_gateway: LiveGateway, transactional_db: None, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_unauthenticated_rpm=1)
    assert post(live_gateway, "bad").status_code == 401
    assert post(live_gateway, "bad").json()["error"]["type"] == "rate_limit"
    assert post(live_gateway, "", "/v1/messages").json()["error"]["type"] == "rate_limit_error"
    assert (
        post(live_gateway, "bad", "/v1beta/models/m:generateContent").json()["error"]["status"]
        == "RESOURCE_EXHAUSTED"
    )
    assert post(live_gateway, "bad", "/v1/nowhere").status_code == 429


def test_zero_disables_the_limit(
    live_gateway: LiveGateway, transactional_db: None, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_unauthenticated_rpm=0)
    assert {response.status_code for response in asyncio.run(send_many(live_gateway.url, ["bad"] * 400))} == {
        401
    }


def test_throttled_client_causes_few_queries_and_no_wait_for_known_keys(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    token: str,
    change_environment: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert post(live_gateway, token).status_code == 200
    change_environment(gateway_unauthenticated_rpm=1)
    asyncio.run(send_many(live_gateway.url, ["bad"] * 2))
    looked_up: list[str] = []
    load = principals.load

    def load_and_note(public_id: str) -> Principal:
        looked_up.append(public_id)
        return load(public_id)

    monkeypatch.setattr(principals, "load", load_and_note)
    started = time.monotonic()
    responses = asyncio.run(send_many(live_gateway.url, [str(Token.generate()) for _ in range(500)]))
    assert {response.status_code for response in responses} == {429}
    assert len(looked_up) <= auth_throttle.LOOKUPS_PER_S * (time.monotonic() - started + 2)
    for _ in range(3):
        config_cache.invalidate_all()
        asyncio.run(send_many(live_gateway.url, [str(Token.generate()) for _ in range(20)]))
        assert post(live_gateway, token).status_code == 200


def test_a_new_key_from_a_throttled_address_is_not_locked_out(
    live_gateway: LiveGateway, demo_project: Project, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_unauthenticated_rpm=1)
    asyncio.run(send_many(live_gateway.url, [str(Token.generate()) for _ in range(100)]))
    _, token = ApiKey.objects.issue(demo_project, "new")
    deadline = time.monotonic() + 3
    while post(live_gateway, token).status_code != 200:
        assert time.monotonic() < deadline
    assert post(live_gateway, "bad").status_code == 429


def test_only_trusted_proxies_set_the_client_ip(
    live_gateway: LiveGateway, transactional_db: None, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_unauthenticated_rpm=1)
    assert [
        post(live_gateway, "bad", **{"x-forwarded-for": f"192.0.2.{n}"}).status_code for n in range(3)
    ] == [401, 429, 429]
    auth_failures.clear()
    change_environment(gateway_trusted_proxies=(ip_network("127.0.0.0/8"),))
    assert [
        post(live_gateway, "bad", **{"x-forwarded-for": f"192.0.2.{n}"}).status_code for n in range(3)
    ] == [401] * 3
    assert [
        post(live_gateway, "bad", **{"x-forwarded-for": f"10.0.0.{n}, 192.0.2.9"}).status_code
        for n in range(3)
    ] == [401, 429, 429]


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["6.6.6.6, 192.0.2.1", "10.0.0.2,10.0.0.3"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.9, 10.0.0.2"], "10.0.0.9"),
        ("10.0.0.1", ["192.0.2.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["192.0.2.1:1234"], "192.0.2.1"),
        ("10.0.0.1", ["[2001:db8::1]:1234"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("2001:db8:ffff::1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["\xff\x00, ,"], "10.0.0.1"),
    ],
)
def test_client_ip_is_the_rightmost_untrusted_hop(
    peer: str, forwarded: list[str], address: str, change_environment: Callable[..., None]
) -> None:
    change_environment(gateway_trusted_proxies=(ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")))
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    assert client_ip({"client": (peer, 1), "headers": headers}) == address


def test_client_ip_is_empty_without_a_peer(change_environment: Callable[..., None]) -> None:
    assert client_ip({"client": None, "headers": []}) == ""


def retry_after(limits: AuthThrottle, address: str) -> float:
    try:
        limits.record_failure(address)
    except TooManyFailures as error:
        return error.retry_after
    return 0


def test_the_window_slides(change_environment: Callable[..., None]) -> None:
    change_environment(gateway_unauthenticated_rpm=60)
    now = 1000.0 * 60
    limits = AuthThrottle(lambda: now)
    assert [retry_after(limits, "a") for _ in range(61)] == [0] * 60 + [60]
    now += 59
    assert retry_after(limits, "a") == 1
    now += 1 + 30.5
    assert sum(not retry_after(limits, "a") for _ in range(100)) == 31, (
        "half of the previous minute still counts"
    )
    assert 0 < retry_after(limits, "a") <= 1
    now += 1
    assert not retry_after(limits, "a")
    now += 200
    assert sum(not retry_after(limits, "a") for _ in range(100)) == 60


def test_ipv6_counts_by_64_bits_and_memory_is_bounded(
    change_environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    change_environment(gateway_unauthenticated_rpm=1)
    limits = AuthThrottle()
    assert not retry_after(limits, "2001:db8:0:1::1") and retry_after(limits, "2001:db8:0:1:ffff::2")
    assert not retry_after(limits, "2001:db8:0:2::1")
    assert not retry_after(limits, "192.0.2.1") and retry_after(limits, "::ffff:192.0.2.1")
    monkeypatch.setattr(auth_throttle, "MAX_CLIENTS", 100)
    for number in range(1000):
        retry_after(limits, f"10.0.{number // 250}.{number % 250}")
    assert len(limits.clients) == 100
    assert retry_after(limits, "10.0.3.249") and not retry_after(limits, "10.0.0.0")

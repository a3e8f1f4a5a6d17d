"""The default rate limit of keys, and the headers that report limits in every response."""

from collections.abc import Callable

import httpx
import pytest

from gateway_project import bootstrap
from keys.auth_throttle import AuthThrottle, auth_failures
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
PATH = "/v1/chat/completions"
ChangeEnvironment = Callable[..., None]


@pytest.fixture
def token(transactional_db: None, change_environment: ChangeEnvironment) -> str:
    change_environment(ai_gateway_rate_limit_rpm=60)
    return ApiKey.objects.issue(Project.objects.create_with_owner("Limited"), "app")[1]


def reported(response: httpx.Response) -> tuple[int, int]:
    headers = response.headers
    return int(headers["x-ratelimit-remaining"]), int(headers["x-ratelimit-reset-ms"])


@pytest.mark.databases
def test_a_key_without_a_limit_of_its_own_may_send_60_requests_per_minute(
    live_gateway: LiveGateway, token: str
) -> None:
    with httpx.Client(base_url=live_gateway.url, headers={"authorization": f"Bearer {token}"}) as client:
        replies = [client.post(PATH, json=CHAT) for _ in range(61)]
        lists = client.get("/v1/models")
    assert [reply.status_code for reply in replies] == [200] * 60 + [429]
    assert [reported(reply)[0] for reply in replies] == [*reversed(range(60)), 0]
    assert all(0 < reported(reply)[1] <= 60_000 for reply in (*replies, lists))
    assert reported(lists)[0] == 0 and lists.status_code == 200


def test_the_limit_can_be_turned_off(
    live_gateway: LiveGateway, token: str, change_environment: ChangeEnvironment
) -> None:
    change_environment(ai_gateway_rate_limit_rpm=0)
    reply = httpx.post(live_gateway.url + PATH, json=CHAT, headers={"authorization": f"Bearer {token}"})
    assert reply.status_code == 200 and "x-ratelimit-remaining" not in reply.headers


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        (PATH, b"{", 400),
        ("/anthropic/v1/messages", b"{}", 400),
        ("/gemini/v1beta/models/none-such:generateContent", b'{"contents": [{"parts": []}]}', 404),
        ("/v1/none-such", b"{}", 404),
    ],
)
def test_errors_report_the_limit_of_the_key(
    live_gateway: LiveGateway, token: str, path: str, content: bytes, status: int
) -> None:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    reply = httpx.post(live_gateway.url + path, content=content, headers=headers)
    assert (reply.status_code, *reported(reply)) == (status, 60, 0)


@pytest.mark.parametrize("path", [PATH, "/anthropic/v1/messages", "/api/v1/usage/stats", "/v1/none-such"])
def test_a_401_reports_the_limit_of_the_address(live_gateway: LiveGateway, token: str, path: str) -> None:
    auth_failures.clear()
    replies = [httpx.post(live_gateway.url + path, json=CHAT) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [401, 401]
    assert 298 <= reported(replies[1])[0] <= 299 and 0 < reported(replies[1])[1] <= 60_000


def test_the_status_of_a_throttle_follows_its_windows() -> None:
    now = 600.0
    throttle = AuthThrottle(lambda: now, lambda: 10)
    for _ in range(6):
        throttle.record_failure("192.0.2.1")
    shown = [throttle.status("192.0.2.1"), throttle.status("192.0.2.2")]
    now = 675.0
    shown.append(throttle.status("192.0.2.1"))
    assert [(each.remaining, each.resets_after) for each in shown if each] == [(4, 60), (10, 0), (5, 45)]


def test_the_first_start_states_the_limit_of_its_key(change_environment: ChangeEnvironment) -> None:
    result = bootstrap.BootstrapResult("a@example.org", None, "sk-gw_x_y")
    change_environment(ai_gateway_rate_limit_rpm=60)
    assert "60 requests per minute for a key without a limit of its own" in bootstrap.banner(result)
    change_environment(ai_gateway_rate_limit_rpm=0)
    assert "none for a key without a limit of its own" in bootstrap.banner(result)

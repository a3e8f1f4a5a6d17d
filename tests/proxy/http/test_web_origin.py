"""Pages of allowed origins can call gateway routes from a browser."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from keys.models import ApiKey
from projects import config_cache
from projects.models import Project
from tests.support.live_gateway import LiveGateway

DASHBOARD, OWN, FOREIGN = "https://chat.example", "https://app.example.org", "https://evil.example"
CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
PATH = "/v1/chat/completions"
PATHS = (
    *(PATH, "/openai/v1/models", "/anthropic/v1/messages", "/api/v1/usage/stats", "/api/costs", "/health"),
    *("/gemini/v1beta/models/demo/chat:generateContent", "/v1/responses/resp_1", "/v1/none-such"),
    "/api/v1/projects",
)


@pytest.fixture
def pages_project(transactional_db: None) -> Project:
    return Project.objects.create_with_owner("Pages", allowed_origins=[OWN, "http://localhost:5173"])


@pytest.fixture
def browser(
    live_gateway: LiveGateway, pages_project: Project, change_environment: Callable[..., None]
) -> Iterator[httpx.Client]:
    change_environment(dashboard_url=f"{DASHBOARD}:443/app", ai_gateway_rate_limit_rpm=60)
    with httpx.Client(base_url=live_gateway.url) as client:
        yield client


def preflight(browser: httpx.Client, origin: str, path: str = PATH) -> httpx.Response:
    asked = {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-stainless-os",
    }
    return browser.options(path, headers={"origin": origin, **asked})


def call(browser: httpx.Client, origin: str, token: str, **changes: object) -> httpx.Response:
    headers = {"origin": origin, "authorization": f"Bearer {token}"}
    return browser.post(PATH, json={**CHAT, **changes}, headers=headers)


@pytest.mark.parametrize("path", PATHS)
def test_a_preflight_needs_no_key(browser: httpx.Client, path: str) -> None:
    for origin in (DASHBOARD, OWN, "http://localhost:5173"):
        reply = preflight(browser, origin, path)
        assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, origin)
        assert reply.headers["access-control-allow-headers"] == "authorization,x-stainless-os"
        assert "POST" in reply.headers["access-control-allow-methods"]
        assert reply.headers["vary"] == "Origin" and reply.headers["x-request-id"]
        assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    "origin", [FOREIGN, "null", "https://app.example.org:8443", "http://app.example.org"]
)
def test_a_preflight_of_another_origin_is_refused(browser: httpx.Client, origin: str) -> None:
    reply = preflight(browser, origin)
    assert reply.status_code == 403 and "DASHBOARD_URL" in reply.text
    assert reply.headers["x-gateway-error-type"] == "auth"
    assert "access-control-allow-origin" not in reply.headers and reply.headers["vary"] == "Origin"


@pytest.mark.databases
def test_only_origins_of_the_keys_project_can_read_its_responses(
    browser: httpx.Client, pages_project: Project
) -> None:
    _, own = ApiKey.objects.issue(pages_project, "page")
    _, other = ApiKey.objects.issue(Project.objects.create_with_owner("Other"), "app")
    readable = [
        call(browser, origin, token).headers.get("access-control-allow-origin")
        for origin, token in ((OWN, own), (DASHBOARD, own), (FOREIGN, own), (DASHBOARD, other), (OWN, other))
    ]
    assert readable == [OWN, DASHBOARD, None, DASHBOARD, None]


def test_pages_can_read_the_headers_of_the_gateway(browser: httpx.Client, pages_project: Project) -> None:
    _, token = ApiKey.objects.issue(pages_project, "page")
    for reply in (call(browser, OWN, token), call(browser, OWN, token, stream=True)):
        exposed = reply.headers["access-control-expose-headers"].split(", ")
        assert {"x-request-id", "x-ratelimit-remaining", "x-gateway-provider"} <= set(exposed)
        assert ("x-cost-usd" in exposed) == ("x-cost-usd" in reply.headers)
        assert reply.headers["vary"] == "Origin"


def test_pages_can_call_the_management_api(browser: httpx.Client, pages_project: Project) -> None:
    _, token = ApiKey.objects.issue(pages_project, "page", scopes=["admin"])
    for origin, allowed in ((OWN, OWN), (FOREIGN, None)):
        headers = {"origin": origin, "authorization": f"Bearer {token}"}
        reply = browser.get("/api/v1/projects", headers=headers)
        assert reply.status_code == 200 and "Origin" in reply.headers["vary"]
        assert reply.headers.get("access-control-allow-origin") == allowed


def test_pages_can_read_errors(browser: httpx.Client) -> None:
    reply = call(browser, OWN, "sk-wrong")
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (401, OWN)
    assert "access-control-allow-origin" not in call(browser, FOREIGN, "sk-wrong").headers


def test_requests_without_an_origin_are_not_changed(browser: httpx.Client, pages_project: Project) -> None:
    _, token = ApiKey.objects.issue(pages_project, "app")
    reply = browser.post(PATH, json=CHAT, headers={"authorization": f"Bearer {token}"})
    assert "vary" not in reply.headers
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert browser.options(PATH).status_code in (401, 405)


def test_a_removed_origin_no_longer_counts(browser: httpx.Client, pages_project: Project) -> None:
    assert preflight(browser, OWN).status_code == 200
    pages_project.allowed_origins = []
    pages_project.save()
    config_cache.invalidate_all()
    assert preflight(browser, OWN).status_code == 403

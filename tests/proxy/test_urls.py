"""URLs that clients build from a base URL, and the places in which SDKs send keys."""

import json
import socket
from typing import Any

import httpx
import pytest

from billing.models import UsageRecord
from keys.models import ApiKey
from projects.models import Project
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

MESSAGES = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "demo/chat", "messages": MESSAGES}
BODIES: dict[str, dict[str, Any]] = {
    "chat/completions": CHAT,
    "responses": {"model": "demo/chat", "input": "Hi"},
    "completions": {"model": "openai/m", "prompt": "Hi"},
    "embeddings": {"model": "demo/embed", "input": "Hi"},
    "messages": {**CHAT, "max_tokens": 5},
    "messages/count_tokens": CHAT,
    "models/demo/chat:generateContent": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
}
"""A request for each path below a version."""
OPENAI_PATHS = ("chat/completions", "responses", "embeddings")
SPELLINGS = [
    *(f"{prefix}{path}" for prefix in ("/v1/", "/", "/v1/v1/", "//v1/", "/v1//") for path in BODIES),
    *(
        f"{prefix}{path}"
        for prefix in (
            "/openai/v1/",
            "/openai/",
            "/openai/v1/v1/",
            "/v1beta/openai/",
            "/gemini/v1beta/openai/",
        )
        for path in OPENAI_PATHS
    ),
    *(
        f"{prefix}{path}"
        for prefix in ("/anthropic/v1/", "/anthropic/", "/anthropic/v1/v1/")
        for path in ("messages", "messages/count_tokens")
    ),
    *(
        f"{prefix}models/demo/chat:generateContent"
        for prefix in (
            "/v1beta/",
            "/v1beta/v1beta/",
            "/v1/v1beta/",
            "/v1alpha/",
            "/gemini/",
            "/gemini/v1beta/",
        )
    ),
]


def body_of(path: str) -> dict[str, Any]:
    """Return the body for the longest known ending of a path."""
    return next(BODIES[known] for known in sorted(BODIES, key=len, reverse=True) if path.endswith(known))


@pytest.mark.parametrize("path", SPELLINGS)
def test_every_spelling_of_a_base_url_is_served(gateway: httpx.Client, path: str) -> None:
    assert gateway.post(path, json=body_of(path)).status_code == 200
    assert gateway.post(f"{path}/", json=body_of(path)).status_code == 200


@pytest.mark.parametrize(
    "prefix",
    [
        "/v1",
        "",
        "/v1/v1",
        "/openai/v1",
        "/openai",
        "/v1beta/openai",
        "/anthropic",
        "/v1beta",
        "/gemini",
        "//v1",
    ],
)
def test_models_are_listed_under_every_prefix(gateway: httpx.Client, prefix: str) -> None:
    for path in (f"{prefix}/models", f"{prefix}/models/", f"{prefix}/models?client_version=0.154.0"):
        assert "demo/chat" in [model["id"] for model in gateway.get(path).json()["data"]]
    assert gateway.get(f"{prefix}/models/demo/chat").json()["id"] == "demo/chat"


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        ("/chat/completions", "post:/openai/v1/chat/completions"),
        ("/v1beta/openai/chat/completions", "post:/openai/v1/chat/completions"),
        ("/openai/deployments/demo/chat/chat/completions", "post:/openai/v1/chat/completions"),
        ("/openai/responses", "post:/openai/v1/responses"),
        ("/deployments/demo/embed/embeddings", "post:/openai/v1/embeddings"),
        ("/messages", "post:/anthropic/v1/messages"),
        ("/models/demo/chat:generateContent", "post:/gemini/v1beta/models:generateContent"),
    ],
)
def test_a_scope_covers_every_alias_of_its_operation(
    live_gateway: LiveGateway, demo_project: Project, path: str, scope: str
) -> None:
    _, allowed = ApiKey.objects.issue(demo_project, "a", scopes=[scope])
    _, other = ApiKey.objects.issue(demo_project, "b", scopes=["get:/openai/v1/models"])
    for token, status in ((allowed, 200), (other, 403)):
        response = httpx.post(live_gateway.url + path, json=body_of(path), headers={"api-key": token})
        assert response.status_code == status, response.text


class TestAzure:
    """Clients of Azure OpenAI: the deployment in the URL is the model."""

    @pytest.mark.parametrize(
        ("model", "operation", "body"),
        [
            ("demo/chat", "chat/completions", {"messages": MESSAGES}),
            ("openai/m", "completions", {"prompt": "Hi"}),
            ("demo/embed", "embeddings", {"input": "Hi"}),
        ],
    )
    @pytest.mark.parametrize("version", ["2024-10-21", "2025-04-01-preview", ""])
    def test_the_deployment_is_the_model(
        self,
        live_gateway: LiveGateway,
        upstream: LocalUpstream,
        token: str,
        model: str,
        operation: str,
        body: dict[str, Any],
        version: str,
    ) -> None:
        response = httpx.post(
            f"{live_gateway.url}/openai/deployments/{model}/{operation}",
            params={"api-version": version},
            json=body,
            headers={"api-key": token},
        )
        assert response.status_code == 200
        record = only_record()
        assert (record.requested_model, record.operation) == (model, OPERATIONS[operation])

    def test_the_provider_gets_the_deployment_and_nothing_of_azure(
        self, live_gateway: LiveGateway, upstream: LocalUpstream, token: str
    ) -> None:
        response = httpx.post(
            f"{live_gateway.url}/openai/deployments/gpt-4o-mini/chat/completions?api-version=2024-10-21",
            json={"model": "something-else", "messages": MESSAGES, "seed": 7},
            headers={"api-key": token},
        )
        assert response.status_code == 200
        (received,) = upstream.requests
        assert json.loads(received.body) == {"model": "gpt-4o-mini", "messages": MESSAGES, "seed": 7}
        assert received.path == "/v1/chat/completions"
        assert "api-key" not in received.headers and token not in str(received.headers)

    def test_a_key_of_other_models_may_not_use_the_deployment(
        self, live_gateway: LiveGateway, demo_project: Project
    ) -> None:
        _, token = ApiKey.objects.issue(demo_project, "a", allowed_models=["demo/embed"])
        response = httpx.post(
            f"{live_gateway.url}/openai/deployments/demo/chat/chat/completions",
            json={"model": "demo/embed", "messages": MESSAGES},
            headers={"api-key": token},
        )
        assert (response.status_code, response.json()["error"]["code"]) == (403, "model_not_allowed")

    @pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'"text"'])
    def test_an_invalid_body_is_a_400(self, gateway: httpx.Client, body: bytes) -> None:
        response = gateway.post("/openai/deployments/demo/chat/chat/completions", content=body)
        assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request")

    def test_an_unknown_operation_of_a_deployment_is_a_404(self, gateway: httpx.Client) -> None:
        response = gateway.post("/openai/deployments/demo/chat/images/generations", json={})
        assert (response.status_code, response.json()["error"]["code"]) == (404, "unknown_url")


OPERATIONS = {"chat/completions": "chat", "completions": "completions", "embeddings": "embeddings"}


def is_error_of(family: str, response: httpx.Response) -> bool:
    """Return whether the body is an error in the format of an API family."""
    match response.json():
        case {"type": "error", "error": {"type": str(), "message": str()}}:
            return family == "anthropic"
        case {"error": {"code": int(), "status": str(), "message": str()}}:
            return family == "gemini"
        case {"success": False, "error": {"code": str(), "message": str()}}:
            return family == "gateway"
        case {"error": {"code": str(), "type": str(), "message": str()}}:
            return family == "openai"
        case _:
            return False


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1", "openai"),
        ("/v1/", "openai"),
        ("/v1/chat", "openai"),
        ("/v1/audio/speech", "openai"),
        ("/openai/nothing", "openai"),
        ("/v1beta/openai/files", "openai"),
        ("/gemini/v1beta/openai/files", "openai"),
        ("/chat/nothing", "openai"),
        ("/deployments/x", "openai"),
        ("/anthropic/v1/complete", "anthropic"),
        ("/messages/batches", "anthropic"),
        ("/v1/messages/batches", "anthropic"),
        ("/v1/v1/messages/nothing", "anthropic"),
        ("/v1beta/files", "gemini"),
        ("/v1alpha/nothing", "gemini"),
        ("/gemini/v1beta/files", "gemini"),
        ("/api/event_logging/batch", "gateway"),
        ("/api/v1/usage/nothing", "gateway"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_an_unknown_path_is_a_404_of_the_family_of_its_prefix(
    gateway: httpx.Client, path: str, family: str, method: str
) -> None:
    response = gateway.request(method, path)
    assert response.status_code == 404 and is_error_of(family, response), response.text
    assert only_record().operation == "unknown"


@pytest.mark.parametrize(
    ("header", "family"),
    [
        ({"anthropic-version": "2023-06-01"}, "anthropic"),
        ({"x-goog-api-client": "google-genai-sdk/1.0"}, "gemini"),
        ({}, "openai"),
    ],
)
def test_below_a_shared_prefix_the_headers_show_the_family(
    gateway: httpx.Client, header: dict[str, str], family: str
) -> None:
    for path in ("/v1", "/v1/files", "/v1/v1/files"):
        response = gateway.post(path, json={}, headers=header)
        assert response.status_code == 404 and is_error_of(family, response)


class TestOtherPaths:
    """Unknown paths: a program gets JSON, and a browser gets a page."""

    @pytest.mark.parametrize("path", ["/v2/chat/completions", "/nothing", "/healthz", "/a/b/c/"])
    def test_a_request_with_a_key_gets_json(self, gateway: httpx.Client, path: str) -> None:
        for method in ("GET", "POST"):
            response = gateway.request(method, path)
            assert response.status_code == 404 and is_error_of("openai", response)
        assert only_record(2).status_code == 404

    @pytest.mark.parametrize("header", ["x-api-key", "x-goog-api-key", "api-key"])
    def test_the_format_is_the_one_that_the_headers_show(
        self, live_gateway: LiveGateway, token: str, header: str
    ) -> None:
        headers = {header: token} | ({"anthropic-version": "2023-06-01"} if header == "x-api-key" else {})
        family = {"x-api-key": "anthropic", "x-goog-api-key": "gemini", "api-key": "openai"}[header]
        response = httpx.get(f"{live_gateway.url}/nothing", headers=headers)
        assert response.status_code == 404 and is_error_of(family, response)

    @pytest.mark.parametrize(
        ("method", "headers"),
        [
            ("POST", {"content-type": "application/json"}),
            ("POST", {}),
            ("PUT", {}),
            ("OPTIONS", {}),
            ("GET", {"content-type": "application/json"}),
        ],
    )
    def test_a_program_without_a_key_gets_json_too(
        self, live_gateway: LiveGateway, transactional_db: None, method: str, headers: dict[str, str]
    ) -> None:
        response = httpx.request(method, f"{live_gateway.url}/nothing", headers=headers)
        assert response.status_code == 404 and is_error_of("openai", response)
        assert response.json()["error"]["request_id"] == response.headers["x-request-id"]
        assert not UsageRecord.objects.exists()

    def test_an_invalid_key_is_a_401(self, live_gateway: LiveGateway, transactional_db: None) -> None:
        response = httpx.get(f"{live_gateway.url}/nothing", headers={"api-key": "sk-gw_nonsense"})
        assert response.status_code == 401 and is_error_of("openai", response)

    def test_a_body_over_the_cap_is_a_413_in_json(
        self, live_gateway: LiveGateway, transactional_db: None
    ) -> None:
        response = httpx.post(f"{live_gateway.url}/nothing", content=bytes(33 * 2**20), timeout=30)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")

    @pytest.mark.parametrize("path", ["/", "/accounts/login/", "/projects/"])
    def test_json_for_a_page_gets_json(
        self, live_gateway: LiveGateway, transactional_db: None, path: str
    ) -> None:
        response = httpx.post(f"{live_gateway.url}{path}", json=CHAT)
        assert response.status_code == 404 and is_error_of("openai", response)

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/nothing", 404),
            ("GET", "/", 200),
            ("HEAD", "/", 200),
            ("GET", "/accounts/login", 301),
            ("POST", "/accounts/login/", 403),
            ("GET", "/static/nothing.css", 404),
        ],
    )
    def test_a_browser_gets_pages(
        self, live_gateway: LiveGateway, transactional_db: None, method: str, path: str, status: int
    ) -> None:
        headers = {"authorization": "Basic dXNlcjpwYXNz"}
        response = httpx.request(method, f"{live_gateway.url}{path}", headers=headers)
        assert response.status_code == status
        assert not response.headers["content-type"].startswith("application/json")

    @pytest.mark.parametrize("path", ["/", "/static/nothing.css"])
    def test_a_key_does_not_hide_a_page(self, gateway: httpx.Client, path: str) -> None:
        assert gateway.get(path).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["//metrics", "/metrics/", "/./metrics"])
def test_metrics_have_one_spelling(live_gateway: LiveGateway, transactional_db: None, path: str) -> None:
    """A proxy that blocks the path blocks all of it."""
    assert httpx.get(f"{live_gateway.url}/metrics").status_code == 200
    with socket.create_connection(live_gateway.socket.getsockname(), timeout=5) as client:
        client.sendall(b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode())
        assert client.recv(1000).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("path", ["/health/", "//ready"])
def test_other_operations_are_found_in_any_spelling(gateway: httpx.Client, path: str) -> None:
    assert gateway.get(path).status_code == 200


class TestMethods:
    """A wrong method is a 405 in JSON that names the right ones; HEAD is GET."""

    @pytest.mark.parametrize(
        ("path", "allowed", "family"),
        [
            ("/v1/chat/completions", "POST", "openai"),
            ("/v1/messages", "POST", "anthropic"),
            ("/v1beta/models/demo/chat:generateContent", "POST", "gemini"),
            ("/v1/models", "GET, HEAD", "openai"),
            ("/openai/deployments/demo/chat/chat/completions", "POST", "openai"),
            ("/api/v1/usage/stats", "GET, HEAD", "gateway"),
            ("/health", "GET, HEAD", "gateway"),
            ("/ready", "GET, HEAD", "gateway"),
            ("/metrics", "GET, HEAD", "gateway"),
        ],
    )
    def test_a_wrong_method_is_a_405_in_json(
        self, gateway: httpx.Client, path: str, allowed: str, family: str
    ) -> None:
        response = gateway.delete(path)
        assert (response.status_code, response.headers["allow"]) == (405, allowed)
        assert is_error_of(family, response)

    @pytest.mark.parametrize(
        "path", ["/", "/health", "/ready", "/metrics", "/v1/models", "/v1/models/demo/chat", "/api/costs"]
    )
    def test_head_is_get_without_a_body(self, gateway: httpx.Client, path: str) -> None:
        head, got = gateway.head(path), gateway.get(path)
        assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


class TestKeys:
    """The gateway finds its key in every place that SDKs use, even beside the key of another service."""

    @pytest.mark.parametrize(
        "headers",
        [
            {"api-key": "KEY"},
            {"x-api-key": "KEY"},
            {"x-goog-api-key": "KEY"},
            {"authorization": "Bearer KEY"},
            {"authorization": "bearer  KEY"},
            {"authorization": "KEY"},
            {"authorization": "Bearer sk-ant-oat01-other", "x-api-key": "KEY"},
            {"authorization": "Bearer KEY", "x-api-key": "sk-ant-other"},
            {"authorization": "Basic dXNlcjpwYXNz", "api-key": "KEY"},
            {"api-key": "other", "x-goog-api-key": "KEY"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
    def test_a_key_in_any_header_is_accepted(
        self, live_gateway: LiveGateway, token: str, path: str, headers: dict[str, str]
    ) -> None:
        given = {name: value.replace("KEY", token) for name, value in headers.items()}
        assert httpx.post(live_gateway.url + path, json=body_of(path), headers=given).status_code == 200

    def test_a_key_of_another_service_alone_is_a_401(
        self, live_gateway: LiveGateway, transactional_db: None
    ) -> None:
        response = httpx.get(f"{live_gateway.url}/v1/models", headers={"api-key": "not-a-key-of-ours"})
        assert "not valid" in response.json()["error"]["message"] and response.status_code == 401

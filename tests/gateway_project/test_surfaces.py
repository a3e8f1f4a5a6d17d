"""A process serves only its surfaces, and the admin at a port of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pytest_django import Settings

from gateway_project import surfaces
from gateway_project.asgi import application
from proxy.http.asgi import ASGIMessage
from tests.support.gateway_server import GatewayProcess, free_port

MAIN, ADMIN_PORT = 8080, 8081
GATEWAY_PATHS = ("/v1/chat/completions", "/api/costs", "/anthropic/v1/messages")
WEB_PATHS = ("/", "/projects/", "/accounts/login/")
ADMIN_PATHS = ("/admin/", "/admin/login/", "/admin")
pytestmark = pytest.mark.usefixtures("services_have_started")


@pytest.fixture
def limit(settings: Settings, change_environment: Callable[..., None]) -> Callable[..., None]:
    def change(*names: str, admin_port: int | None = None) -> None:
        change_environment(gateway_surfaces=names, gateway_admin_port=admin_port)
        settings.HAS_LIMITED_SURFACES = settings.ENV.has_limited_surfaces

    return change


async def get(path: str, port: int = MAIN) -> ASGIMessage:
    """Return the start of the response."""
    sent: list[ASGIMessage] = []

    async def receive() -> ASGIMessage:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: ASGIMessage) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        **{"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""},
        **{"headers": [(b"host", b"localhost")], "server": ("127.0.0.1", port), "scheme": "http"},
    }
    await application(scope, receive, send)
    return sent[0]


def served(paths: tuple[str, ...], port: int = MAIN, *, is_gateway_route: bool = False) -> set[bool]:
    scopes = [{"path": path, "server": ("127.0.0.1", port)} for path in paths]
    return {surfaces.serves(scope, is_gateway_route=is_gateway_route) for scope in scopes}


@pytest.mark.parametrize("surface", ["gateway", "web", "admin"])
def test_a_process_serves_its_surfaces_only(limit: Callable[..., None], surface: str) -> None:
    limit(surface)
    assert served(GATEWAY_PATHS, is_gateway_route=True) == {surface == "gateway"}
    assert served(WEB_PATHS) == {surface == "web"}
    assert served(ADMIN_PATHS) == {surface == "admin"}
    assert served(("/api/v1/projects", "/api/docs")) == {surface != "admin"}
    assert served(("/health", "/ready", "/metrics"), is_gateway_route=True) == {True}
    assert served(("/static/css/tokens.css",)) == {True}


def test_the_admin_port_serves_the_admin_only(limit: Callable[..., None]) -> None:
    limit("gateway", "web", "admin", admin_port=ADMIN_PORT)
    assert served(ADMIN_PATHS, ADMIN_PORT) == {True} and served(ADMIN_PATHS) == {False}
    assert served(WEB_PATHS, ADMIN_PORT) == {False} and served(WEB_PATHS) == {True}
    assert served(GATEWAY_PATHS, ADMIN_PORT, is_gateway_route=True) == {False}
    assert served(GATEWAY_PATHS, is_gateway_route=True) == {True}


async def test_other_paths_are_not_found(limit: Callable[..., None]) -> None:
    limit("gateway", "admin", admin_port=ADMIN_PORT)
    refused = [await get("/projects/"), await get("/admin/"), await get("/v1/models", ADMIN_PORT)]
    assert [start["status"] for start in refused] == [404, 404, 404]
    assert all(b"x-request-id" in dict(start["headers"]) for start in refused)
    assert (await get("/v1/models"))["status"] == 401


async def test_the_root_of_the_admin_port_leads_to_the_admin(limit: Callable[..., None]) -> None:
    limit("gateway", "admin", admin_port=ADMIN_PORT)
    start = await get("/", ADMIN_PORT)
    assert (start["status"], dict(start["headers"])[b"location"]) == (302, b"/admin/")


def test_one_process_listens_on_two_ports(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    admin_port = free_port()
    gateway = GatewayProcess(tmp_path / "data", GATEWAY_ADMIN_PORT=str(admin_port)).start()
    try:
        admin = httpx.get(f"http://127.0.0.1:{admin_port}/", follow_redirects=True)
        assert (admin.status_code, admin.url.path) == (200, "/admin/login/")
        assert httpx.get(f"http://127.0.0.1:{admin_port}/v1/models").status_code == 404
        assert httpx.get(f"{gateway.url}/admin/login/").status_code == 404
        assert httpx.get(f"{gateway.url}/v1/models").status_code == 401
    finally:
        gateway.stop()

"""A process serves only its surfaces, and the admin at a port of its own."""

import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.core.management import call_command
from pytest_django import Settings

from gateway_project import bootstrap, server, surfaces
from gateway_project.asgi import application
from gateway_project.dashboard import static_files
from proxy.http.asgi import ASGIMessage
from tests.support.gateway_server import free_port
from tests.support.live_gateway import LiveGateway

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


def test_one_process_listens_on_two_ports(
    live_gateway: LiveGateway, transactional_db: None, limit: Callable[..., None]
) -> None:
    limit("gateway", "web", "admin", admin_port=live_gateway.admin_port)
    admin_url = f"http://127.0.0.1:{live_gateway.admin_port}"
    admin = httpx.get(f"{admin_url}/", follow_redirects=True)
    assert (admin.status_code, admin.url.path) == (200, "/admin/login/")
    paths = ((admin_url, "/v1/models"), (live_gateway.url, "/admin/login/"), (live_gateway.url, "/v1/models"))
    assert [httpx.get(url + path).status_code for url, path in paths] == [404, 404, 401]


def test_the_gateway_binds_the_port_of_the_admin(
    change_environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []

    class FakeServer:
        def run(self, sockets: list[socket.socket]) -> None:
            for each in sockets:
                ports.append(each.getsockname()[1])
                each.close()

    change_environment(port=free_port(), gateway_admin_port=free_port())
    monkeypatch.setattr(bootstrap, "prepare_database", lambda: None)
    monkeypatch.setattr(static_files, "collect_if_changed", lambda: None)
    monkeypatch.setattr(server, "build", lambda _banner: FakeServer())
    call_command("serve")
    assert ports == [settings.ENV.port, settings.ENV.gateway_admin_port]

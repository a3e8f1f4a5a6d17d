"""Access to every route of the URLconf: by project, by role, by scope, and within budgets."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.converters import get_converters

from keys.models import ApiKey
from projects.models import Membership, Project, Role, User
from proxy.http.handler import GatewayView, resolve_route
from proxy.operations import Operation
from tests.support.live_gateway import LiveGateway

PUBLIC = {"landing"}
"""Pages that need no account.

Sign-in pages and the admin are not listed, because their libraries check access.
"""
ANY_ACCOUNT = {"project-list", "project-new"}
"""Pages of a user that belong to no project."""
PARAMETER = re.compile(r"<(\w+):(\w+)>")
"""A parameter of an address: its converter and its name."""


def walk(resolver: URLResolver | None = None, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in (resolver or get_resolver()).url_patterns:
        if isinstance(entry, URLResolver):
            yield from walk(entry, prefix + str(entry.pattern))
        else:
            yield prefix + str(entry.pattern), entry


def is_page(address: str, entry: URLPattern) -> bool:
    other = ("admin/", "accounts/", "api/", "^api/")
    return not address.startswith(other) and not hasattr(entry.callback, "operation")


PAGES = [(address, entry) for address, entry in walk() if is_page(address, entry)]
GATEWAY = [
    (address, view.operation)
    for address, entry in walk()
    if isinstance(entry.callback, GatewayView)
    for view in (entry.callback, *entry.callback.others)
]


def fill_path(address: str, objects: dict[str, Any]) -> str:
    """Return the path of a page with an object in place of each parameter."""

    def value_of(parameter: re.Match[str]) -> str:
        converter, name = parameter.groups()
        assert name in objects, f"{address}: add {name} to the fixture path_values"
        return get_converters()[converter].to_url(objects[name])

    return "/" + PARAMETER.sub(value_of, address)


@pytest.mark.parametrize(("address", "entry"), PAGES, ids=[address for address, _ in PAGES])
@pytest.mark.parametrize("method", ["get", "post"])
def test_project_is_a_404_for_non_members(
    charlie: User, path_values: dict[str, Any], client: Client, address: str, entry: URLPattern, method: str
) -> None:
    if entry.name in PUBLIC | ANY_ACCOUNT:
        return
    client.force_login(charlie)
    Project.objects.create_with_owner("Charlie's own", owner=charlie)
    assert "<slug:slug>" in address, f"{address} is not a page of a project: add it to PUBLIC or ANY_ACCOUNT"
    assert getattr(client, method)(fill_path(address, path_values)).status_code == 404


@pytest.mark.parametrize(("address", "entry"), PAGES, ids=[address for address, _ in PAGES])
def test_pages_require_sign_in(
    path_values: dict[str, Any], client: Client, address: str, entry: URLPattern
) -> None:
    response = client.get(fill_path(address, path_values))
    if entry.name in PUBLIC:
        assert response.status_code == 200
    else:
        assert response.status_code == 302 and response.headers["location"].startswith("/accounts/login/")


@pytest.mark.parametrize(("address", "entry"), PAGES, ids=[address for address, _ in PAGES])
@pytest.mark.parametrize("role", Role)
def test_a_role_opens_only_the_pages_it_may_see(
    alice: User,
    charlie: User,
    project: Project,
    path_values: dict[str, Any],
    client: Client,
    address: str,
    entry: URLPattern,
    role: Role,
) -> None:
    if entry.name in PUBLIC | ANY_ACCOUNT:
        return
    Membership.objects.create(project=project, user=charlie, role=role)
    client.force_login(charlie)
    required_role = entry.callback.required_role  # type: ignore[attr-defined]
    status = client.get(fill_path(address, path_values)).status_code
    assert status == 403 if role < required_role else status in (200, 405)


def test_an_object_of_another_project_is_a_404(
    charlie: User, path_values: dict[str, Any], client: Client
) -> None:
    own_project = Project.objects.create_with_owner("Charlie's own", owner=charlie)
    client.force_login(charlie)
    for address, _entry in PAGES:
        if len(PARAMETER.findall(address)) > 1:
            path = fill_path(address, {**path_values, "slug": own_project.slug})
            assert client.get(path).status_code == 404, path
            assert client.post(path).status_code == 404, path


MESSAGES = [{"role": "user", "content": "Hi"}]
CONTENTS = [{"role": "user", "parts": [{"text": "Hi"}]}]
BODIES: dict[str, dict[str, Any]] = {
    "chat": {"model": "demo/chat", "messages": MESSAGES},
    "responses": {"model": "demo/chat", "input": "Hi"},
    "compact": {"model": "gpt-4o-mini", "input": "Hi"},
    "completions": {"model": "demo/chat", "prompt": "Hi"},
    "embeddings": {"model": "demo/embed", "input": "Hi"},
    "messages": {"model": "demo/chat", "max_tokens": 10, "messages": MESSAGES},
    "generate": {"contents": CONTENTS},
    "embed": {"content": CONTENTS[0]},
    "embed_batch": {"requests": [{"model": "models/demo/embed", "content": CONTENTS[0]}]},
}
"""Request with a cost for each billable operation. Add new operations here."""
FREE = {
    "models",
    "usage",
    "count_tokens",
    "retrieve_response",
    "delete_response",
    "cancel_response",
    "list_input_items",
    "purge_cache",
    "unknown",
    "health",
    "ready",
    "metrics",
    "logs",
    "log_detail",
    "delete_logs",
    "prompt_log",
}
WITHOUT_SCOPE = {"unknown", "health", "ready", "metrics", "logs", "log_detail", "prompt_log"}
GATEWAY_VALUES = {
    "model": "demo/chat",
    "deployment": "gpt-4o-mini",
    "public_id": "some-key",
    "response_id": "resp_1",
    "log_id": "req_1",
}
"""Values for the parameters of gateway routes."""


@pytest.mark.parametrize(("address", "operation"), GATEWAY, ids=[address for address, _ in GATEWAY])
def test_every_gateway_route_is_declared_billable_or_free(address: str, operation: Operation) -> None:
    assert operation.billable == (operation.name in BODIES)
    assert operation.billable or operation.name in FREE
    assert operation.scope or operation.name in WITHOUT_SCOPE


@pytest.mark.databases
def test_budget_is_enforced_on_every_billable_route(live_gateway: LiveGateway, demo_project: Project) -> None:
    key, token = ApiKey.objects.issue(demo_project, "app")
    demo_project.budgets.create(key=key, period="day", limit_nano=1)
    billable = {address: operation for address, operation in GATEWAY if operation.billable}
    assert {operation.name for operation in billable.values()} == set(BODIES)
    for address, operation in billable.items():
        path = fill_path(address, GATEWAY_VALUES)
        assert resolve_route(path) is not None
        response = httpx.post(
            live_gateway.url + path, json=BODIES[operation.name], headers={"x-api-key": token}
        )
        assert response.status_code == 429 and "budget" in response.text, (address, response.text)


@pytest.mark.databases
def test_scope_is_enforced_on_every_gateway_route(live_gateway: LiveGateway, demo_project: Project) -> None:
    """A key with another scope gets a 403."""
    _, reader = ApiKey.objects.issue(demo_project, "app", scopes=["usage:read"])
    _, caller = ApiKey.objects.issue(demo_project, "app", scopes=["inference"])
    for address, operation in GATEWAY:
        if operation.scope:
            token = caller if operation.scope == "usage:read" else reader
            path = fill_path(address, GATEWAY_VALUES)
            response = httpx.request(
                operation.method,
                live_gateway.url + path,
                json=BODIES.get(operation.name),
                headers={"x-api-key": token},
            )
            assert response.status_code == 403, (address, response.text)

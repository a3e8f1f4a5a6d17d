"""The OpenAPI document and the page that shows it."""

import gzip
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import get_resolver

from gateway_project.api.views import ApiView, NotFoundView
from tests.e2e.test_isolation import walk


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = Client().get("/api/schema").json()
    return document


def methods_of_routes() -> Iterator[tuple[str, str]]:
    for address, entry in walk(get_resolver()):
        view = getattr(entry.callback, "cls", None)
        if view and issubclass(view, ApiView) and view is not NotFoundView:
            yield from ((address, method) for method in view.rules)


def test_the_document_is_openapi_3_1(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1.")
    assert {"bearer", "session"} == set(schema["components"]["securitySchemes"])


def test_every_method_of_every_route_is_described(schema: dict[str, Any]) -> None:
    described = {(path, method.upper()) for path, methods in schema["paths"].items() for method in methods}
    assert len(described) == len(list(methods_of_routes()))


def test_operation_ids_are_unique(schema: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))


def test_every_operation_has_a_summary_and_an_envelope(schema: dict[str, Any]) -> None:
    for path in schema["paths"].values():
        for operation in path.values():
            assert operation["description"]
            success = next(iter(operation["responses"].values()))
            content = success["content"].get("application/json")
            assert content is None or content["schema"]["required"][:2] == ["success", "data"]


def test_operations_are_tagged_with_their_resource(schema: dict[str, Any]) -> None:
    tags = {
        tag for path in schema["paths"].values() for operation in path.values() for tag in operation["tags"]
    }
    assert {"projects", "keys", "credentials", "usage", "tokens"} <= tags and "api-keys" not in tags


def test_fields_are_in_camel_case(schema: dict[str, Any]) -> None:
    components = {name: each for name, each in schema["components"]["schemas"].items() if name != "Error"}
    names = {field for each in components.values() for field in each.get("properties", {})}
    assert names and not [name for name in names if "_" in name]


def test_the_page_loads_only_from_this_server(db: None) -> None:
    page = Client().get("/api/docs")
    assert "http" not in page.content.decode().replace("http-equiv", "")
    policy = page["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "script-src" not in policy


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_the_files_of_the_page_are_served(name: str) -> None:
    response = Client().get(f"/api/docs/{name}")
    assert len(gzip.decompress(response.content)) > 100_000
    assert Client().get("/api/docs/secrets.json").status_code == 404

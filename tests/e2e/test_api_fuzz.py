"""Random bodies and parameters of the management API get responses that its document describes."""

import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator

from keys.models import AccessToken
from projects.models import User
from tests.support.api_client import ALL_SCOPES, ApiClient, reply_of

JUNK: tuple[object, ...] = (
    *(None, True, -1, 0, 10**30, 1.5, 1e300, "", "\x00", "\u2028", "a\nb", "x" * 5000, "=1+1", "2026-02-30"),
    *([], ["\x00"], [None], [[]], {}, {"a": {}}, {"\x00": "\x00"}),
)
VALID: dict[str, dict[str, Any]] = {
    "createProject": {"name": "My App", "openaiKey": "sk-abc"},
    "createKey": {"name": "app", "dailyBudget": 5, "expiresOn": "2999-01-01", "scopes": ["inference"]},
    "createCredential": {"name": "main", "provider": "openai", "secret": "sk-abc"},
    "createRoute": {"name": "fast", "targets": [{"provider": "local", "model": "x"}], "rule": {}},
    "createBudget": {"period": "month", "limit": 5},
    "createToken": {"name": "ci", "scopes": ["usage:read"]},
}
CASES = 150


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = Client().get("/api/schema").json()
    return document


@pytest.fixture
def api(alice: User) -> ApiClient:
    return ApiClient(AccessToken.objects.issue(alice, "fuzz", scopes=ALL_SCOPES)[1])


def operations(schema: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def cases(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], str, object]]:
    """Return every parameter and every field of a body with every junk value."""
    found: list[tuple[str, str, dict[str, Any], str, object]] = []
    for path, method, operation in operations(schema):
        queries = [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"]
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        reference = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        fields = schema["components"]["schemas"].get(reference, {}).get("properties", {})
        for name in (*queries, *fields, "unknown"):
            found += [(path, method, operation, name, junk) for junk in JUNK]
    return found


def check_response(schema: dict[str, Any], operation: dict[str, Any], reply: Any, case: object) -> None:
    """Check that a response is one of those that the document describes."""
    assert reply.status < 500, case
    documented = operation["responses"][str(reply.status)]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**documented, "components": schema["components"]})
    assert not list(validator.iter_errors(reply.body)), (case, reply.body)


def send_cases(api: ApiClient, schema: dict[str, Any], values: dict[str, Any], chosen: list[Any]) -> None:
    for path, method, operation, name, junk in chosen:
        filled = re.sub(r"{(\w+)}", lambda match: str(values[match[1]]), path).removeprefix("/api/v1/")
        case = (method, filled, name, junk)
        if method == "GET":
            response = api.client.get(f"/api/v1/{filled}", {name: str(junk)})
            if response["Content-Type"] != "application/json":
                continue
            reply = reply_of(response)
        else:
            reply = api.send(method, filled, {**VALID.get(operation["operationId"], {}), name: junk})
        check_response(schema, operation, reply, case)


@pytest.mark.databases
def test_random_requests_get_documented_responses(
    api: ApiClient, schema: dict[str, Any], path_values: dict[str, Any]
) -> None:
    chosen = Random(1).sample([case for case in cases(schema) if case[1] != "DELETE"], CASES)
    send_cases(api, schema, path_values, chosen)


@pytest.mark.parametrize("name", VALID)
def test_the_valid_bodies_of_these_tests_are_valid(
    api: ApiClient, schema: dict[str, Any], path_values: dict[str, Any], name: str
) -> None:
    path = next(path for path, _, operation in operations(schema) if operation["operationId"] == name)
    reply = api.post(path.removeprefix("/api/v1/").replace("{slug}", path_values["slug"]), VALID[name])
    assert reply.status == 201, reply.body


@pytest.mark.long
def test_every_field_gets_every_junk_value(
    api: ApiClient, schema: dict[str, Any], path_values: dict[str, Any]
) -> None:
    send_cases(api, schema, path_values, [case for case in cases(schema) if case[1] != "DELETE"])

"""Client of the REST API for tests: sends JSON with a token, and checks the envelope of each response."""

import json
from dataclasses import dataclass
from typing import Any

from django.test import Client

from keys.models import AccessToken
from projects.models import User

ALL_SCOPES = ["usage:read", "logs:read", "keys:manage", "project:manage"]


@dataclass(frozen=True)
class Reply:
    """A response. `data` is that of the envelope; `error` is empty if the request succeeded."""

    status: int
    body: dict[str, Any]
    headers: Any

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.body.get("error", {})
        return error


def reply_of(response: Any) -> Reply:
    """Return a response of Django's test client, and check that it has the envelope."""
    assert response["Content-Type"] == "application/json", response.content[:500]
    reply = Reply(response.status_code, response.json(), response.headers)
    assert reply.body["success"] is (reply.status < 400), reply.body
    assert reply.status < 400 or reply.error["request_id"] == response["x-request-id"]
    assert reply.status < 400 or reply.error["type"] == response["x-gateway-error-type"]
    return reply


class ApiClient:
    """Sends requests with an access token, an API key, or neither."""

    def __init__(self, token: str = "") -> None:
        self.client = Client(headers={"authorization": f"Bearer {token}"} if token else {})

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        content = "" if body is None else json.dumps(body)
        response = self.client.generic(
            method, f"/api/v1/{path}", content, content_type="application/json", headers=headers
        )
        return reply_of(response)

    def get(self, path: str) -> Reply:
        return self.send("GET", path)

    def post(self, path: str, body: object = None) -> Reply:
        return self.send("POST", path, {} if body is None else body)

    def patch(self, path: str, body: object) -> Reply:
        return self.send("PATCH", path, body)

    def delete(self, path: str) -> Reply:
        return self.send("DELETE", path)


def api_of(user: User, *scopes: str) -> ApiClient:
    """Return a client with a new access token of a user, which has all scopes unless some are given."""
    return ApiClient(AccessToken.objects.issue(user, "tests", scopes=list(scopes or ALL_SCOPES))[1])

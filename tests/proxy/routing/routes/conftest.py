"""Accounts and requests for tests of routes, which need neither a database nor a provider."""

import json
from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from proxy.formats.metadata import read_metadata
from proxy.formats.openai_chat import ChatRequest
from proxy.http.request import GatewayRequest
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account
from proxy.routing.routes.rules import RuleInput
from tests.support.operator_accounts import forget_configuration

OPENAI_URL = "https://api.openai.com/v1"
MESSAGES = [{"role": "user", "content": "Hi"}]


def account(slug: str, provider: str = "", **fields: Any) -> Account:
    """Return an account of a project. Its name is that of its provider if none is given."""
    row = PROVIDERS[provider or slug]
    return Account(slug, row, fields.pop("base_url", row.base_url), fields.pop("secret", "sk"), **fields)


class Given(Protocol):
    def __call__(self, key: str = ..., headers: dict[str, str] | None = ..., **body: Any) -> RuleInput: ...


@pytest.fixture
def given() -> Given:
    """Return a function that makes a chat request for rules."""

    def make(key: str = "key1", headers: dict[str, str] | None = None, **body: Any) -> RuleInput:
        fields = {"model": "smart", "messages": MESSAGES, **body}
        raw = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"path": "/v1/chat/completions", "method": "POST", "headers": raw}
        request = GatewayRequest(scope, never)
        client_request = ChatRequest(json.dumps(fields).encode())
        header = request.raw_headers.get(b"x-gateway-metadata", b"")
        tags = read_metadata(client_request.fields, header, "").tags
        return RuleInput(key, request, client_request, tags)

    return make


async def never() -> dict[str, Any]:
    raise AssertionError("nothing is received in this test")


@pytest.fixture(autouse=True)
def default_configuration() -> Iterator[None]:
    forget_configuration()
    yield
    forget_configuration()

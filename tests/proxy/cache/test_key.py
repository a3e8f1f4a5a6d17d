"""Cache keys: equal only for requests of one project that lead to one account and model."""

import json
import random
from typing import Any

import pytest

from proxy import operations
from proxy.cache.key import cache_key
from proxy.operations import BodyOperation
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account

TRIES = 10_000
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
OPENAI = Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk-1")


def key_of(
    fields: dict[str, Any],
    *,
    project: int = 1,
    account: Account = OPENAI,
    model: str = "m",
    operation: BodyOperation[Any] = operations.CHAT_COMPLETIONS,
    headers: dict[str, str] | None = None,
) -> str:
    request = operation.parse(json.dumps(fields).encode())
    return cache_key(project, operation, account, model, request, headers or {})


def test_ten_thousand_requests_never_share_a_key_across_projects() -> None:
    """Projects, credentials, models and aliases vary; everything that decides the response stays apart."""
    choose = random.Random(17)
    owners: dict[str, tuple[object, ...]] = {}
    for _ in range(TRIES):
        project, secret = choose.randrange(40), f"sk-{choose.randrange(5)}"
        slug, model = choose.choice(("openai", "team", "other")), choose.choice(("m", "m-2"))
        alias, text = choose.choice(("m", "alias", "openai/m")), choose.choice(("Hi", "Hello"))
        account = Account(slug, PROVIDERS["openai"], "https://api.openai.com/v1", secret)
        fields = {"messages": [{"role": "user", "content": text}], "model": alias}
        key = key_of(fields, project=project, account=account, model=model)
        assert owners.setdefault(key, (project, secret, slug, model, text)) == (
            project, secret, slug, model, text,
        )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": CHAT["messages"], "model": "m"},
        {**CHAT, "model": "an-alias"},
        {**CHAT, "stream": True},
        {**CHAT, "stream": True, "stream_options": {"include_usage": True}},
        {**CHAT, "metadata": {"team": "search"}},
    ],
    ids=["order", "alias", "stream", "stream options", "tags"],
)
def test_what_does_not_decide_the_content_is_not_in_the_key(fields: dict[str, Any]) -> None:
    assert key_of(fields) == key_of(CHAT)


@pytest.mark.parametrize(
    "changed",
    [{"temperature": 0}, {"n": 2}, {"user": "u"}, {"seed": 1}, {"unknown": 1}, {"max_tokens": 5}],
    ids=str,
)
def test_every_other_field_is_in_the_key(changed: dict[str, Any]) -> None:
    assert key_of({**CHAT, **changed}) != key_of(CHAT)


def test_forwarded_headers_and_operations_are_in_the_key() -> None:
    assert key_of(CHAT, headers={"openai-beta": "x"}) != key_of(CHAT)
    prompt = {"model": "m", "prompt": "Hi"}
    completion = key_of(prompt, operation=operations.COMPLETIONS)
    assert completion != key_of({**prompt, "stream": True}, operation=operations.COMPLETIONS)


def test_anthropic_user_ids_are_in_the_key_and_tags_are_not() -> None:
    body = {**CHAT, "max_tokens": 5}
    keys = [
        key_of({**body, "metadata": metadata}, operation=operations.MESSAGES)
        for metadata in ({"user_id": "a"}, {"user_id": "a", "team": "x"}, {"user_id": "b"})
    ]
    assert keys[0] == keys[1] != keys[2]

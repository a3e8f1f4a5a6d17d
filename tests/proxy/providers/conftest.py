"""Fixtures for tests of what each provider receives."""

from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from proxy.providers.catalog import PROVIDERS
from proxy.routing import resolve
from proxy.routing.accounts import Account
from tests.support.moved_providers import ReachProvider, short_response
from tests.support.upstream_server import LocalUpstream


@pytest.fixture
def reach_provider(
    monkeypatch: pytest.MonkeyPatch, upstream: LocalUpstream, gateway: httpx.Client
) -> Iterator[ReachProvider]:
    """Return a function that moves a provider to the local upstream, with a path for each format."""

    def move(slug: str) -> None:
        provider = PROVIDERS[slug]
        moved = replace(
            provider, base_urls={format: f"{upstream.url}/{format}" for format in provider.base_urls}
        )
        account = Account(slug, moved, "", "sk-provider", trusted=True)
        monkeypatch.setattr(resolve, "operator_accounts_for", lambda principal: (account,))

    upstream.handler = short_response
    yield move

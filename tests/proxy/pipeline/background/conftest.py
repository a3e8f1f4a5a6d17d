"""Fixtures of the tests of background responses."""

from collections.abc import Iterator

import pytest

from proxy.models import BackgroundResponse
from proxy.pipeline.background import poller
from tests.support.responses_provider import ResponsesProvider
from tests.support.upstream_server import LocalUpstream


@pytest.fixture(autouse=True)
def provider(upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch) -> ResponsesProvider:
    monkeypatch.setattr(poller, "POLL_INTERVAL_S", 0.05)
    provider = ResponsesProvider()
    upstream.handler = provider.handle
    return provider


@pytest.fixture(autouse=True)
def all_settled(transactional_db: None) -> Iterator[None]:
    yield
    BackgroundResponse.objects.all().delete()

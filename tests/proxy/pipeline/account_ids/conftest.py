"""Fixtures of the tests of account ids: shared accounts, and the storing of ids."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from django.conf import settings

from keys.models import ApiKey
from projects.models import Project
from proxy.models import Credential, IssuedIdQuerySet
from tests.proxy.pipeline.account_ids.requests import answer, configure
from tests.support.live_gateway import LiveGateway
from tests.support.upstream_server import LocalUpstream


@pytest.fixture(autouse=True)
def vendors(gateway: httpx.Client, upstream: LocalUpstream) -> Iterator[None]:
    """Give the operator an account at each vendor; all of them are the local upstream."""
    before = settings.ENV
    root = upstream.url.removesuffix("/v1")
    keys = {
        "anthropic_api_key": "k",
        "anthropic_base_url": root,
        "gemini_api_key": "k",
        "gemini_base_url": root,
    }
    configure(**keys)
    upstream.handler = answer
    yield
    settings.ENV = before
    configure()


@pytest.fixture(autouse=True)
def neighbour(transactional_db: None) -> Project:
    """Create a second project that may use the operator's accounts, so that they are shared."""
    return Project.objects.create_with_owner("Neighbour", slug="neighbour", uses_operator_credentials=True)


@pytest.fixture
def other(live_gateway: LiveGateway, transactional_db: None) -> Iterator[httpx.Client]:
    """Return a client of a second project that may use the operator's accounts."""
    project = Project.objects.create_with_owner("Other", slug="other", uses_operator_credentials=True)
    yield from client_of(live_gateway, project)


@pytest.fixture
def owner(
    live_gateway: LiveGateway, upstream: LocalUpstream, transactional_db: None
) -> Iterator[httpx.Client]:
    """Return a client of a project with its own credentials."""
    project = Project.objects.create_with_owner("Owner", slug="owner", uses_operator_credentials=True)
    root = upstream.url.removesuffix("/v1")
    for provider, address in {"openai": upstream.url, "anthropic": root, "gemini": root}.items():
        Credential.objects.create(project=project, slug=f"my-{provider}", provider=provider, base_url=address)
    yield from client_of(live_gateway, project)


def client_of(live: LiveGateway, project: Project) -> Iterator[httpx.Client]:
    token = ApiKey.objects.issue(project, "tests")[1]
    with httpx.Client(base_url=live.url, headers={"authorization": f"Bearer {token}"}, timeout=20) as client:
        yield client


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Return an event. Ids are not stored until the event is set."""
    event, really_store = threading.Event(), IssuedIdQuerySet.store

    def keep(self: IssuedIdQuerySet, issued: Any) -> None:
        assert event.wait(20)
        really_store(self, issued)

    monkeypatch.setattr(IssuedIdQuerySet, "store", keep)
    yield event
    event.set()

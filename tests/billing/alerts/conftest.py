"""Fixtures of the tests of alerts: a budget that alerts Alice, and a receiver of webhooks."""

from collections.abc import Iterator

import pytest
from aiohttp import web
from django.conf import settings

from billing.models import Budget, Period
from keys.models import ApiKey
from projects.models import Project, User
from tests.support.factories import USD
from tests.support.upstream_server import LocalUpstream


async def accept(_request: web.Request, _body: object) -> web.StreamResponse:
    return web.Response(status=204)


@pytest.fixture
def receiver(upstream: LocalUpstream) -> LocalUpstream:
    upstream.handler = accept
    return upstream


@pytest.fixture
def budget(project: Project, key: ApiKey, alice: User) -> Budget:
    """A daily budget of 10 dollars whose alerts go to Alice."""
    budget = Budget.objects.create(project=project, key=key, period=Period.DAY, limit_nano=10 * USD)
    budget.alert_members.set(project.memberships.filter(user=alice))
    return budget


@pytest.fixture
def no_private_hosts() -> Iterator[None]:
    before = settings.ENV
    settings.ENV = before.model_copy(update={"gateway_private_upstreams": ()})
    yield
    settings.ENV = before

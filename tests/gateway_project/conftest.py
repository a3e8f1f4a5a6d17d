"""Fixtures of the tests of the ASGI application."""

import atexit

import pytest

from gateway_project import lifespan
from proxy.runtime import runtime
from tests.support.fake_services import FakeServices


@pytest.fixture
def services_have_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not start the services: pages need none of them."""
    monkeypatch.setattr(lifespan.services, "have_started", True)


@pytest.fixture
def fake_services(monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    fake = FakeServices()
    monkeypatch.setattr(lifespan, "running_services", fake.running)
    monkeypatch.setattr(lifespan, "services", lifespan.Services())
    monkeypatch.setattr(atexit, "register", lambda _: None)
    monkeypatch.setattr(runtime, "ready", runtime.ready)
    return fake

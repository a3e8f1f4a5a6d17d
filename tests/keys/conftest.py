"""Fixtures of the tests of API keys."""

import time

import pytest

from keys.auth_throttle import auth_failures


@pytest.fixture
def new_window(monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    monkeypatch.setattr(auth_failures, "clock", lambda: time.monotonic() - started)

"""Fixtures of the tests of retries and fallbacks."""

from typing import Any

import pytest

from proxy.routing import resolve
from proxy.routing.targets import Resolution
from tests.support.faulty_targets import FaultyTargets
from tests.support.upstream_server import LocalUpstream


@pytest.fixture
def targets(upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch) -> FaultyTargets:
    """Targets that serve every model of the running gateway, with the retries that the test sets."""
    faulty = FaultyTargets(upstream)

    async def resolved(*_: Any) -> Resolution:
        return faulty.resolution()

    monkeypatch.setattr(resolve, "resolve", resolved)
    return faulty

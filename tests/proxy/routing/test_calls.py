"""Calls of targets measure their latency, which orders the targets of routes."""

from types import SimpleNamespace
from typing import Any

import pytest

from proxy.operations import CHAT_COMPLETIONS
from proxy.routing import calls
from proxy.routing.routes.latency import FAILURE_S, LatencyAverages
from proxy.routing.targets import Candidate, Target, UpstreamRequest
from proxy.upstream.errors import UpstreamTimeout
from tests.proxy.routing.routes.conftest import account

OPENAI = account("openai")


@pytest.mark.parametrize(
    ("result", "counts_as_failure"),
    [(200, False), (404, False), (429, True), (503, True), (UpstreamTimeout("slow"), True)],
    ids=str,
)
async def test_failures_count_as_slow(
    monkeypatch: pytest.MonkeyPatch, result: int | Exception, counts_as_failure: bool
) -> None:
    averages = LatencyAverages()
    monkeypatch.setattr(calls, "latency_averages", averages)

    async def call(*_: Any, **__: Any) -> Any:
        if isinstance(result, Exception):
            raise result
        return SimpleNamespace(status=result)

    monkeypatch.setattr(calls, "call", call)
    plan: Any = SimpleNamespace(facts=SimpleNamespace(stream=False))
    candidate: Any = Candidate(Target(OPENAI, "m", None), plan)
    request: Any = SimpleNamespace(header=lambda _: "")
    try:
        await calls.send(candidate, UpstreamRequest("/x", b""), request, CHAT_COMPLETIONS)
    except UpstreamTimeout:
        assert result is not None
    average = averages.next_estimate(OPENAI, "m")
    assert average == FAILURE_S if counts_as_failure else 0 < average < 1

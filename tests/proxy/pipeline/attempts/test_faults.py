"""Table of faults: what a failing provider means for its client, in each format (`docs/faults.md`).

To write the page again, run this test with GATEWAY_TEST_WRITE_FAULTS=1.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from billing.ledger.balances import window_balances
from billing.models import Budget, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.registry import CODECS
from proxy.routing import resolve
from proxy.routing.targets import Resolution
from tests.support import faulty_targets as faults
from tests.support.api_calls import FORMATS, ask
from tests.support.faulty_targets import Behaviour, FaultyTargets
from tests.support.live_gateway import LiveGateway, wait_until
from tests.support.upstream_server import LocalUpstream

PAGE = Path(__file__).parents[4] / "docs" / "faults.md"
RETRIES = 1
TIMEOUT_S = 0.1
FAULTS: dict[str, Behaviour] = {
    "connection refused": faults.refuse,
    "connection reset before the status": faults.reset_before_response,
    "connection closed in the body": faults.close_in_body,
    "429 with `retry-after: 0`": faults.status(429, retry_after="0"),
    "429 with `retry-after: 60`": faults.status(429, retry_after="60"),
    "500": faults.status(500),
    "529": faults.status(529),
    "402": faults.status(402),
    "400": faults.status(400),
    "an error event first (503 without a stream)": faults.open_with_error,
    "no response": faults.hang,
    "only keep-alives": faults.send_only_keepalives,
    "truncated JSON": faults.truncate,
    "a web page with status 200": faults.send_web_page,
    "slow pieces": faults.trickle,
    "slow first chunk": faults.begin_slowly,
}
TIMED = (faults.hang, faults.send_only_keepalives)
UNSURE = (*TIMED, faults.refuse)
"""Faults whose calls the provider need not receive."""
SUCCESSES = ("slow pieces", "slow first chunk")
UNBILLED_STATUS = 400


@dataclass
class Cell:
    """Request of one cell: its targets and its format."""

    fault: str
    format: str
    stream: bool
    targets: FaultyTargets
    model: str
    response: httpx.Response = field(init=False)
    record: UsageRecord = field(init=False)

    def run(self, gateway: LiveGateway, token: str, post: Callable[..., httpx.Response]) -> None:
        self.response = ask(gateway, token, self.format, stream=self.stream, model=self.model, post=post)

    @property
    def has_fallback(self) -> bool:
        """Return whether a second target works."""
        return len(self.targets.by_name) > 1

    @property
    def billed_nano(self) -> int:
        """Return the amount that the providers bill for complete responses."""
        return sum(target.cost_nano for target in self.targets.by_name.values())

    def check(self) -> None:
        """Check that the record agrees with what the providers bill, and with what the client sees."""
        record, attempts = self.record, self.record.attempts or []
        calls = int(self.response.headers["x-gateway-attempts"])
        assert self.response.headers["x-gateway-provider"] == record.provider
        assert calls == max(len(attempts), 1)
        received = sum(target.calls for target in self.targets.by_name.values())
        # A loaded machine may not send a call within the short timeout.
        assert calls == received or (calls > received and FAULTS[self.fault] in UNSURE)
        if attempts:
            assert sum(attempt["cost_nano"] for attempt in attempts) == record.cost_nano
        assert record.cost_nano == self.billed_nano or (
            record.estimated and record.cost_nano > self.billed_nano
        )
        if self.response.status_code >= UNBILLED_STATUS:
            assert CODECS[self.format].parse_error(self.response.status_code, self.response.content).message

    def __str__(self) -> str:
        calls = int(self.response.headers["x-gateway-attempts"])
        billed = "estimate" if self.record.estimated else "exact" if self.billed_nano else "nothing"
        return f"{self.outcome()}, {calls} call{'s' if calls > 1 else ''}, {billed}"

    def outcome(self) -> str:
        status, text = self.response.status_code, self.response.text
        if status >= UNBILLED_STATUS:
            return f"{status} `{self.record.error}`"
        if self.record.outcome == "ok":
            return "200" if "Hello" in text else "200, as sent"
        return "200, then an error event"


@pytest.fixture
def groups(upstream: LocalUpstream, monkeypatch: pytest.MonkeyPatch) -> dict[str, FaultyTargets]:
    """The targets of each model."""
    by_model: dict[str, FaultyTargets] = {}

    async def resolved(_principal: Any, model: str, *_: Any) -> Resolution:
        return by_model[model].resolution()

    async def handle(request: Any, body: Any) -> Any:
        model = request.path.split("/")[1].removesuffix("-b")
        return await by_model[model].handle(request, body)

    monkeypatch.setattr(resolve, "resolve", resolved)
    upstream.handler = handle
    return by_model


def cells(upstream: LocalUpstream, groups: dict[str, FaultyTargets], *, fallback: bool) -> Iterator[Cell]:
    for number, (fault, behaviour) in enumerate(FAULTS.items()):
        if fallback and fault in SUCCESSES:
            continue
        for format in FORMATS:
            for stream in (False, True):
                name = f"m{number}-{format}-{stream}-{fallback}"
                targets = groups[name] = FaultyTargets(upstream, RETRIES, keep_handler=True)
                timeout_s = TIMEOUT_S if behaviour in TIMED else None
                targets.add(name, behaviour, format=format, timeout_s=timeout_s)
                if fallback:
                    targets.retries = 0
                    other = "anthropic" if format.startswith("openai") else "openai_chat"
                    targets.add(f"{name}-b", format=other, usd=3)
                yield Cell(fault, format, stream, targets, name)


def run_all(made: list[Cell], gateway: LiveGateway, token: str) -> None:
    """Make all requests at once, and read their records."""
    with httpx.Client() as client, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda cell: cell.run(gateway, token, client.post), made))
    wait_until(lambda: UsageRecord.objects.count() == len(made))
    records = {record.requested_model: record for record in UsageRecord.objects.all()}
    for cell in made:
        cell.record = records[cell.model]
        cell.check()


def test_faults_have_the_documented_results(
    live_gateway: LiveGateway, token: str, upstream: LocalUpstream, groups: dict[str, FaultyTargets]
) -> None:
    made = [*cells(upstream, groups, fallback=False), *cells(upstream, groups, fallback=True)]
    run_all(made, live_gateway, token)
    page = render(made)
    if os.environ.get("GATEWAY_TEST_WRITE_FAULTS"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page


@pytest.mark.databases
def test_fallbacks_keep_hard_budgets_exact(
    live_gateway: LiveGateway,
    token: str,
    demo_project: Project,
    upstream: LocalUpstream,
    groups: dict[str, FaultyTargets],
) -> None:
    key = ApiKey.objects.get(project=demo_project)
    budget = Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=1000 * 10**9)
    made = list(cells(upstream, groups, fallback=True))
    run_all(made, live_gateway, token)
    for cell in made:
        assert cell.record.cost_nano <= (cell.record.reserved_nano or 0)
    spent = sum(cell.record.cost_nano for cell in made)
    balance = window_balances(demo_project, [budget], made[0].record.day)[budget.pk]
    assert (balance.spent, balance.reserved) == (spent, 0)


HEADER = """# Faults of providers

<!-- `tests/proxy/pipeline/attempts/test_faults.py` writes this page with GATEWAY_TEST_WRITE_FAULTS=1. -->

The table says what a client gets if its provider fails on every call, how many calls are made, and what is
billed: `nothing`, the `exact` amount that the providers bill, or an
[estimate](pricing.md#interrupted-responses), because a provider may bill a response that the gateway has not
received. Each cell applies to clients of all four formats, unless it names one. A test checks each cell with
a local provider that has these faults.

In the first two columns, one target of the client's own format is called again once (`retry_attempts: 1`). In
the last two columns, it has no retries, and a second target of another format and price works.

| the provider sends | response | stream | response, with a fallback | stream, with a fallback |
|---|---|---|---|---|
"""


def render(made: list[Cell]) -> str:
    return HEADER + "".join(row(fault, [cell for cell in made if cell.fault == fault]) for fault in FAULTS)


def row(fault: str, made: list[Cell]) -> str:
    columns = [
        text_of([cell for cell in made if (cell.has_fallback, cell.stream) == column])
        for column in ((False, False), (False, True), (True, False), (True, True))
    ]
    return f"| {fault} | {' | '.join(columns)} |\n"


def text_of(made: list[Cell]) -> str:
    texts = {cell.format: str(cell) for cell in made}
    if len(set(texts.values())) == 1:
        return texts[FORMATS[0]]
    return "; ".join(f"{format}: {text}" for format, text in texts.items())

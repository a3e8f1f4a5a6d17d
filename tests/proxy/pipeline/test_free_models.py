"""Free models under a hard budget: free output is neither limited nor aborted."""

import json
from typing import Any

import pytest

from billing.ledger.balances import window_balances
from billing.ledger.interface import WindowBalance
from billing.models import Budget, Outcome, PriceOverride
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_calls import COMPLETE_USAGE, FORMATS, ask, connect, respond_with_text
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

USD = 10**9
LIMIT_NANO = 10 * USD
PIECES = 60
FREE_OUTPUT: dict[str, dict[str, int]] = {
    "output free": {"input_nano": USD, "output_nano": 0},
    "fee only": {"input_nano": 0, "output_nano": 0, "request_nano": 1_000},
    "all free": {"input_nano": 0, "output_nano": 0},
}
PRICED_OUTPUT: dict[str, dict[str, int]] = {
    "input free": {"input_nano": 0, "output_nano": USD},
    "below a nano-dollar a token": {"input_nano": 300_000, "output_nano": 400_000},
}


def budgeted(
    project: Project, wire_format: str, upstream: LocalUpstream, fields: dict[str, int]
) -> tuple[Budget, str]:
    """Return a hard budget of a new key, and the key's token.

    `fields` is the price of every model of the project.
    """
    connect(project, wire_format, upstream)
    PriceOverride.objects.create(project=project, model="*", **fields)
    key, token = ApiKey.objects.issue(project, "app")
    return Budget.objects.create(project=project, key=key, period="day", limit_nano=LIMIT_NANO), token


def limits_in(body: bytes) -> dict[str, Any]:
    sent = json.loads(body)
    return {
        name: value
        for name, value in (sent | sent.get("generationConfig", {})).items()
        if name.lower().startswith("max")
    }


@pytest.mark.parametrize("price", FREE_OUTPUT)
@pytest.mark.parametrize("wire_format", FORMATS)
def test_a_stream_of_free_output_is_not_cut(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, wire_format: str, price: str
) -> None:
    budget, token = budgeted(demo_project, wire_format, upstream, FREE_OUTPUT[price])
    upstream.handler = respond_with_text(wire_format, "word ", COMPLETE_USAGE[wire_format], pieces=PIECES)
    response = ask(live_gateway, token, wire_format, stream=True, limit=10)
    assert (
        "insufficient_quota" not in response.text
        and "rate_limit" not in response.text
        and "RESOURCE_EXHAUSTED" not in response.text
    )
    record = only_record()
    assert (record.outcome, record.output_tokens, record.estimated) == (Outcome.OK, 5, False)
    cost = 7 * FREE_OUTPUT[price]["input_nano"] // 10**6 + FREE_OUTPUT[price].get("request_nano", 0)
    assert record.cost_nano == cost
    assert window_balances(demo_project, [budget]) == {budget.pk: WindowBalance(cost, 0)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("price", FREE_OUTPUT)
@pytest.mark.parametrize("wire_format", FORMATS)
def test_free_output_gets_no_limit_from_the_budget(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    wire_format: str,
    price: str,
    stream: bool,
) -> None:
    _, token = budgeted(demo_project, wire_format, upstream, FREE_OUTPUT[price])
    upstream.handler = respond_with_text(wire_format, "word ", COMPLETE_USAGE[wire_format])
    response = ask(live_gateway, token, wire_format, stream=stream)
    assert response.status_code == 200 and "x-gateway-max-tokens" not in response.headers
    assert limits_in(upstream.requests[0].body) == {}
    assert only_record().outcome == Outcome.OK


@pytest.mark.parametrize("price", PRICED_OUTPUT)
@pytest.mark.parametrize("wire_format", FORMATS)
def test_output_with_a_price_is_limited_by_what_the_budget_pays_for(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, wire_format: str, price: str
) -> None:
    budget, token = budgeted(demo_project, wire_format, upstream, PRICED_OUTPUT[price])
    upstream.handler = respond_with_text(wire_format, "word ", COMPLETE_USAGE[wire_format], pieces=PIECES)
    response = ask(live_gateway, token, wire_format, stream=True)
    assert (
        list(limits_in(upstream.requests[0].body).values()) == [4096]
        and response.headers["x-gateway-max-tokens"] == "4096"
    )
    record = only_record()
    assert (record.outcome, record.output_tokens) == (Outcome.OK, 5)
    assert 0 < record.cost_nano <= (record.reserved_nano or 0)
    assert window_balances(demo_project, [budget]) == {budget.pk: WindowBalance(record.cost_nano, 0)}


@pytest.mark.parametrize(("left", "granted"), [(30 * 1_000, 30), (1_000, 1)])
def test_free_input_leaves_all_of_the_budget_for_the_output(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, left: int, granted: int
) -> None:
    budget, token = budgeted(demo_project, "openai_chat", upstream, PRICED_OUTPUT["input free"])
    budget.limit_nano = left
    budget.save()
    response = ask(live_gateway, token, "openai_chat", stream=False)
    assert (response.status_code, response.headers["x-gateway-max-tokens"]) == (200, str(granted))
    only_record()


@pytest.mark.parametrize("left", [0, 5])
def test_a_free_request_runs_under_an_exhausted_budget(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project, left: int
) -> None:
    budget, token = budgeted(demo_project, "openai_chat", upstream, FREE_OUTPUT["all free"])
    budget.limit_nano = left
    budget.save()
    response = ask(live_gateway, token, "openai_chat", stream=True)
    assert response.status_code == 200 and "insufficient_quota" not in response.text
    assert only_record().cost_nano == 0

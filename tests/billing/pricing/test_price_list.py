"""Price overrides: the one that applies to a model at a time, and what the gateway charges by it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from aiohttp import web
from django.core.exceptions import ValidationError
from django.db import IntegrityError
from django.utils import timezone

from billing.models import PriceOverride, UsageRecord
from billing.pricing import Price, Tokens, price_list
from keys.models import ApiKey
from projects import config_cache
from projects.models import ConfigVersion, Project
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import USAGE, LocalUpstream

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
USD = 10**9


def set_price(
    project: Project | None,
    model: str,
    usd: int,
    *,
    provider: str = "",
    starts_at: datetime = NOON,
    **fields: Any,
) -> PriceOverride:
    rates = {"input_nano": usd * USD, "output_nano": usd * USD}
    return PriceOverride.objects.create(
        project=project, provider=provider, model=model, effective_from=starts_at, **rates | fields
    )


def find_price(project: Project, model: str = "gpt-5", moment: datetime = NOON + HOUR) -> Price | None:
    return price_list.load_price_list(project.pk).find(("mine", "openai"), "openai", model, moment)


def input_usd(project: Project, model: str = "gpt-5", moment: datetime = NOON + HOUR) -> float | None:
    price = find_price(project, model, moment)
    return None if price is None else price.base.input / USD


def test_project_price_wins_over_operator_and_bundled_price(project: Project) -> None:
    assert input_usd(project) == 1.25
    set_price(None, "gpt-5", 7)
    assert input_usd(project) == 7
    set_price(project, "gpt-*", 8)
    assert input_usd(project) == 8
    assert input_usd(Project.objects.create_with_owner("Another")) == 7


def test_exact_name_and_provider_win_over_wildcards(project: Project) -> None:
    set_price(project, "*", 1)
    set_price(project, "gpt-*", 2)
    set_price(project, "gpt-5*", 3)
    assert input_usd(project) == 3
    set_price(project, "gpt-5", 4)
    set_price(project, "gpt-5", 5, provider="openai")
    assert input_usd(project) == 5
    set_price(project, "gpt-5", 6, provider="mine", starts_at=NOON - HOUR)
    assert input_usd(project) == 6
    set_price(project, "gpt-5", 9, provider="anthropic")
    assert (input_usd(project), input_usd(project, "gpt-4o"), input_usd(project, "o3")) == (6, 2, 1)


def test_latest_started_price_applies(project: Project) -> None:
    set_price(project, "gpt-5", 2, starts_at=NOON)
    set_price(project, "gpt-5", 3, starts_at=NOON + 2 * HOUR)
    moments = [NOON - HOUR, NOON, NOON + HOUR, NOON + 2 * HOUR]
    assert [input_usd(project, moment=moment) for moment in moments] == [1.25, 2, 2, 3]


def test_ended_price_falls_back_to_the_next_price(project: Project) -> None:
    set_price(project, "gpt-5", 2, starts_at=NOON - 2 * HOUR)
    set_price(project, "gpt-5", 3, starts_at=NOON - HOUR, ended_at=NOON)
    moments = [NOON - 2 * HOUR, NOON - HOUR, NOON]
    assert [input_usd(project, moment=moment) for moment in moments] == [2, 3, 1.25]


def test_later_created_price_wins_at_the_same_start(project: Project) -> None:
    set_price(project, "gpt-5", 2)
    set_price(project, "gpt-5", 3, ended_at=NOON + HOUR)
    assert [input_usd(project, moment=moment) for moment in (NOON, NOON + HOUR)] == [3, 1.25]


def test_backdated_price_applies_between_its_neighbours(project: Project) -> None:
    set_price(project, "gpt-5", 4, starts_at=NOON)
    set_price(project, "gpt-5", 2, starts_at=NOON - 4 * HOUR)
    set_price(project, "gpt-5", 3, starts_at=NOON - 2 * HOUR)
    moments = [NOON - 5 * HOUR, NOON - 4 * HOUR, NOON - HOUR, NOON, NOON + 9999 * HOUR]
    assert [input_usd(project, moment=moment) for moment in moments] == [1.25, 2, 3, 4, 4]


def test_repeated_hour_of_a_clock_change_has_two_start_times(project: Project) -> None:
    """2026-10-25 02:30 in Berlin is both 00:30 and 01:30 UTC. The price applies from the later one."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold) for fold in (0, 1))
    set_price(project, "gpt-5", 2, starts_at=second)
    prices = [input_usd(project, moment=moment.astimezone(UTC)) for moment in (first, second)]
    assert prices == [1.25, 2]
    assert second.astimezone(UTC) - first.astimezone(UTC) == HOUR


def test_ended_future_price_never_applies(project: Project) -> None:
    price = set_price(project, "gpt-5", 2, starts_at=timezone.now() + HOUR)
    price.end_now()
    assert input_usd(project, moment=timezone.now() + 2 * HOUR) == 1.25


def test_cache_rates_default_to_the_input_rate(project: Project) -> None:
    price = set_price(
        project,
        "gpt-5",
        2,
        cache_read_nano=USD,
        reasoning_nano=5 * USD,
        request_nano=7,
        tool_fees={"web_search": 11},
    ).price()
    million = 10**6
    assert (
        price.cost(Tokens(0, million, million, million, million, million), {"web_search": 2})
        == (1 + 2 + 2 + 5) * USD + 7 + 22
    )
    assert price.for_tier("priority") == price


@pytest.mark.parametrize(
    "invalid_field",
    [
        {"input_nano": -1},
        {"output_nano": 10**15 + 1},
        {"cache_read_nano": -5},
        {"model": "gpt-*-mini"},
        {"tool_fees": {"web_search": -1}},
        {"tool_fees": {"web search": 1}},
        {"tool_fees": ["web_search"]},
        {"tool_fees": {"web_search": 0.01}},
    ],
)
def test_invalid_prices_are_rejected(project: Project, invalid_field: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"model": "m", "input_nano": 1, "output_nano": 1} | invalid_field
    with pytest.raises(ValidationError):
        PriceOverride(project=project, **fields).full_clean()


def test_database_rejects_negative_prices(project: Project) -> None:
    with pytest.raises(IntegrityError):
        PriceOverride.objects.create(project=project, model="m", input_nano=-1, output_nano=0)


def test_setting_a_price_invalidates_the_config_cache(project: Project) -> None:
    before = ConfigVersion.current()
    set_price(project, "gpt-5", 2)
    assert ConfigVersion.current() != before


@pytest.mark.django_db(transaction=True)
async def test_planned_price_starts_without_a_cache_invalidation(project: Project) -> None:
    soon = timezone.now() + timedelta(milliseconds=300)
    await PriceOverride.objects.acreate(
        project=project, model="gpt-5", effective_from=soon, input_nano=2 * USD, output_nano=0
    )
    prices = await price_list.price_lists.get(project.pk)
    before = prices.find(("openai",), "openai", "gpt-5", soon - timedelta(microseconds=1))
    after = (await price_list.price_lists.get(project.pk)).find(("openai",), "openai", "gpt-5", soon)
    assert before is not None and after is not None
    assert (before.base.input, after.base.input) == (1_250_000_000, 2 * USD)
    config_cache.invalidate_all()


MESSAGES = [{"role": "user", "content": "Hi"}]


def send(gateway: LiveGateway, project: Project, model: str, **fields: Any) -> httpx.Response:
    """Send a request with a key that has a budget."""
    key, token = ApiKey.objects.issue(project, "budgeted")
    project.budgets.create(key=key, period="day", limit_nano=USD)
    body = {"model": model, "messages": MESSAGES, "max_tokens": 50, **fields}
    return httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {token}"},
        timeout=20,
    )


def test_key_with_a_budget_may_use_a_free_model(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    assert send(live_gateway, demo_project, "openai/house-model").status_code >= 400
    PriceOverride.objects.create(project=None, model="house-*", input_nano=0, output_nano=0)
    deadline = timezone.now() + timedelta(seconds=2)
    while (response := send(live_gateway, demo_project, "openai/house-model")).status_code != 200:
        assert timezone.now() < deadline
    record = UsageRecord.objects.get(outcome="ok")
    assert response.headers["x-cost-usd"] == "0"
    assert record.applied_price is not None
    assert (record.cost_nano, record.applied_price.source.startswith("the operator's price")) == (0, True)


def test_reported_service_tier_is_charged_and_stored(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    """A request for `priority` that was served as `flex` costs half the price of gpt-5.

    Its usage is 100 input tokens, 40 of them cached, and 20 output tokens.
    """

    async def served_flex(_request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert body["service_tier"] == "priority"
        message = {"role": "assistant", "content": "Hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(
            {"id": "c", "model": "gpt-5", "choices": [choice], "usage": USAGE, "service_tier": "flex"}
        )

    upstream.handler = served_flex
    assert send(live_gateway, demo_project, "openai/gpt-5", service_tier="priority").status_code == 200
    record = only_record()
    assert (record.service_tier, record.cost_nano) == ("flex", 60 * 625 + 40 * 62 + 20 + 20 * 5_000)
    assert sum(line.amount_femto for line in record.cost_lines) == record.cost_nano * 10**6
    assert record.reserved_nano is not None and record.reserved_nano >= 4 * record.cost_nano


def test_new_price_is_charged_at_once(
    live_gateway: LiveGateway, upstream: LocalUpstream, demo_project: Project
) -> None:
    assert send(live_gateway, demo_project, "openai/gpt-5").status_code == 200
    PriceOverride.objects.create(
        project=demo_project, model="gpt-5", input_nano=3 * USD, output_nano=4 * USD, request_nano=9
    )
    deadline = timezone.now() + timedelta(seconds=2)
    while send(live_gateway, demo_project, "openai/gpt-5").headers["x-cost-usd"] != "0.000380009":
        assert timezone.now() < deadline

"""The cost of a request is exact, and never exceeds the reserved amount."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import (
    PER_MILLION,
    Fee,
    ImageModelRates,
    Price,
    Rates,
    TierRates,
    Tokens,
    break_down,
    bundled_price,
    simple_price,
)

rate = st.integers(0, 10**12)
rates = st.builds(Rates, rate, rate, rate, rate, rate, st.none() | rate)
pricing_tiers = st.dictionaries(st.integers(1, 10**6), rates, max_size=3).map(
    lambda items: tuple(sorted(items.items(), key=lambda tier: tier[0]))
)
SERVICE_TIERS = ("flex", "priority", "fast", "batch", "us", "fast_us", "priority_us")
KINDS = ("web_search", "file_search", "code_interpreter")
service_tiers = st.dictionaries(
    st.sampled_from(SERVICE_TIERS), st.builds(TierRates, rates, pricing_tiers), max_size=3
)
tool_fees = st.dictionaries(st.sampled_from(KINDS), st.tuples(rate, st.booleans()), max_size=3).map(
    lambda items: tuple(Fee(kind, nano, per_request) for kind, (nano, per_request) in items.items())
)
token_fees = st.dictionaries(st.sampled_from(("input_audio", "output_audio", "output_image")), rate).map(
    lambda items: tuple(Fee(kind, nano, per=PER_MILLION) for kind, nano in items.items())
)
prices = st.builds(
    Price,
    base=rates,
    tiers=pricing_tiers,
    source=st.just("test"),
    request_fee_nano=rate,
    service_tiers=service_tiers.map(lambda items: tuple(items.items())),
    extra_fees=st.builds(lambda tools, tokens: (*tools, *tokens), tool_fees, token_fees),
    image_models=st.lists(
        st.builds(ImageModelRates, st.sampled_from(("gpt-image-1", "gpt-image-2")), *[rate] * 6), max_size=2
    ).map(tuple),
)
count = st.integers(0, 10**6)
IMAGE_MODEL_KINDS = (
    "gpt-image-1: image_output",
    "gpt-image-2.6: image_input",
    "gpt-image-3: text_input",
    "gpt-image-2: estimated_image_output",
)
calls = st.dictionaries(
    st.sampled_from((*KINDS, *IMAGE_MODEL_KINDS, "web_fetch", "input_audio")), st.integers(0, 20)
)
BILLED = {
    "": ("", "default", "standard", "on_demand", "standard_us"),
    "auto": ("", "default", "priority", "standard_us", "priority_us"),
    "auto_global": ("standard", "priority"),
    "priority": ("", "default", "priority", "fast"),
    "fast": ("standard", "fast", "priority", "fast_us", "standard_us"),
    "fast_global": ("standard", "fast"),
    "flex": ("default", "flex"),
    "default": ("default",),
}
"""Tiers that a request may be billed as, by the tier that it asks for."""


@st.composite
def usages(draw: st.DrawFn) -> tuple[Tokens, int]:
    """Generate token counts, and an upper bound of their input."""
    output = draw(count)
    tokens = Tokens(draw(count), draw(count), draw(count), draw(count), output, draw(st.integers(0, output)))
    return tokens, tokens.prompt + draw(count)


@given(prices, usages(), st.sampled_from(list(BILLED)), st.data(), calls)
def test_cost_never_exceeds_the_maximum(
    price: Price, used: tuple[Tokens, int], requested_tier: str, data: st.DataObject, limits: dict[str, int]
) -> None:
    tokens, bound = used
    billed_tier = data.draw(st.sampled_from(BILLED[requested_tier]))
    extras = {kind: data.draw(st.integers(0, maximum)) for kind, maximum in limits.items()}
    extras["output_image"] = data.draw(st.integers(0, tokens.output))
    extras["output_audio"] = data.draw(st.integers(0, tokens.output - extras["output_image"]))
    assert price.for_tier(billed_tier).cost(tokens, extras) <= price.max_cost(
        requested_tier, limits
    ).upper_bound(bound, tokens.output)


@given(prices, count, st.integers(0, 10**15), st.sampled_from(list(BILLED)), calls)
def test_affordable_output_fits_the_amount(
    price: Price, prompt: int, amount: int, requested_tier: str, limits: dict[str, int]
) -> None:
    max_cost = price.max_cost(requested_tier, limits)
    output = max_cost.max_output_for(amount, prompt)
    if output is None:
        assert max_cost.upper_bound(prompt, 10**9) == max_cost.upper_bound(prompt, 0)
    else:
        assert output == 0 or max_cost.upper_bound(prompt, output) <= amount


@pytest.mark.parametrize(
    ("rates", "fee", "remaining", "affordable"),
    [
        (Rates(10**9, 10**9, 10**9, 10**9, 0), 0, 0, None),
        (Rates(0, 0, 0, 0, 0), 7, 0, None),
        (Rates(0, 0, 0, 0, 0), 0, 0, None),
        (Rates(0, 0, 0, 0, 10**9), 0, 3_000, 3),
        (Rates(0, 0, 0, 0, 10**9), 0, 999, 0),
        (Rates(0, 0, 0, 0, 400_000), 0, 1, 2),
        (Rates(0, 0, 0, 0, 1), 7, 1, 10**6),
        (Rates(0, 0, 0, 0, 0, reasoning=10**9), 0, 1_000, 1),
    ],
    ids=[
        "free output",
        "fee only",
        "all free",
        "free input",
        "too little",
        "below a nano-dollar",
        "lowest rate",
        "reasoning",
    ],
)
def test_output_is_limited_by_the_remaining_amount_unless_free(
    rates: Rates, fee: int, remaining: int, affordable: int | None
) -> None:
    """`remaining` nano-USD are remaining after the fee and 100 tokens of input."""
    max_cost = Price(base=rates, request_fee_nano=fee, source="test").max_cost()
    amount = max_cost.upper_bound(100, 0) + remaining
    assert max_cost.max_output_for(amount, 100) == affordable


def test_free_output_in_one_tier_keeps_the_limit_of_another() -> None:
    expensive = Rates(0, 0, 0, 0, 10**9)
    max_cost = Price(
        base=Rates(0, 0, 0, 0, 0), service_tiers=(("priority", TierRates(expensive)),), source="test"
    ).max_cost("priority")
    assert max_cost.max_output_for(5_000, 100) == 5


@given(prices, usages(), calls)
def test_cost_lines_add_up_to_the_cost(
    price: Price, used: tuple[Tokens, int], extras: dict[str, int]
) -> None:
    tokens, _ = used
    cost = price.cost(tokens, extras)
    lines = break_down(price, tokens, extras, cost)
    assert sum(line.amount_femto for line in lines) == cost * PER_MILLION
    assert all(
        line.amount_femto == line.quantity * line.rate * PER_MILLION // line.per
        for line in lines
        if line.rate is not None
    )
    assert "reserved" not in [line.kind for line in lines]


@given(prices, usages(), calls)
def test_stored_price_gives_the_same_cost(
    price: Price, used: tuple[Tokens, int], extras: dict[str, int]
) -> None:
    tokens, _ = used
    stored_price = price.only_used_fees(extras)
    assert stored_price.cost(tokens, extras) == price.cost(tokens, extras)
    assert break_down(stored_price, tokens, extras, price.cost(tokens, extras)) == break_down(
        price, tokens, extras, price.cost(tokens, extras)
    )
    assert {fee.kind for fee in stored_price.extra_fees} <= {kind for kind, count in extras.items() if count}


@given(prices)
def test_price_survives_encoding(price: Price) -> None:
    assert msgspec.json.decode(msgspec.json.encode(price), type=Price) == price


def test_stored_price_without_fees_can_be_read() -> None:
    base = b'{"input":1,"cache_read":2,"cache_write_5m":3,"cache_write_1h":4,"output":5}'
    stored_price = b'{"base":%b,"source":"old","tiers":[]}' % base
    assert msgspec.json.decode(stored_price, type=Price) == Price(base=Rates(1, 2, 3, 4, 5), source="old")


def test_cost_is_rounded_once_over_all_buckets() -> None:
    price = Price(
        base=Rates(input=400_000, cache_read=400_000, cache_write_5m=0, cache_write_1h=0, output=0),
        source="test",
    )
    assert price.cost(Tokens(input=1)) == 0
    assert price.cost(Tokens(input=1, cache_read=1)) == 1
    assert [line.kind for line in break_down(price, Tokens(input=1, cache_read=1), None, 1)] == [
        "input",
        "cache_read",
        "rounding",
    ]


def test_pricing_tier_applies_to_all_tokens_of_a_longer_prompt() -> None:
    cheap, expensive = simple_price("1", "2", "test").base, simple_price("10", "20", "test").base
    price = Price(base=cheap, source="test", tiers=((200_000, expensive),))
    assert price.cost(Tokens(input=200_000, output=1_000_000)) == 2_200_000_000
    assert price.cost(Tokens(input=100_000, cache_read=100_001, output=1_000_000)) == 22_000_010_000


def test_reasoning_is_charged_once_as_output() -> None:
    assert simple_price("1", "2", "test").cost(Tokens(output=1_000_000, reasoning=900_000)) == 2_000_000_000


def test_charge_of_a_reservation_is_labelled_reserved() -> None:
    lines = break_down(simple_price("1", "2", "test"), Tokens(input=1_000_000), None, 5_000_000_000)
    assert [(line.kind, line.amount_femto) for line in lines] == [("input", 10**15), ("reserved", 4 * 10**15)]


def test_request_without_charge_has_no_cost_lines() -> None:
    free = Price(base=Rates(0, 0, 0, 0, 0), source="test", request_fee_nano=5)
    assert break_down(free, Tokens(), None, 0) == ()
    assert break_down(None, Tokens(input=10), None, 0) == ()


AT = datetime(2026, 11, 1, tzinfo=UTC)
"""The prices in the comments below are from the vendors' pages of this time.

The sums were computed by hand.
"""


def priced(provider: str, model: str) -> Price:
    price = bundled_price(provider, model, AT)
    assert price is not None
    return price


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        # developers.openai.com/api/docs/pricing, gpt-5: 1.25 in, 0.125 cached, 10 out; flex half of that,
        # priority twice.
        ("default", 13_750_000),  # 2000 x 1.25 + 10000 x 0.125 + 1000 x 10 = 13,750 millionths
        ("flex", 6_875_000),
        ("priority", 27_500_000),
        ("scale", 13_750_000),
    ],
)
def test_openai_is_billed_by_the_reported_tier(tier: str, nano: int) -> None:
    price = priced("openai", "gpt-5").for_tier(tier)
    assert price.cost(Tokens(input=2_000, cache_read=10_000, output=1_000)) == nano


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        # platform.claude.com/docs/en/about-claude/pricing, Claude Opus 4.8: 5 in, 0.50 read, 6.25 and 10
        # written, 25 out. 1000 x 5 + 2000 x 0.5 + 3000 x 6.25 + 400 x 10 + 500 x 25 = 5000 + 1000 + 18750 +
        # 4000 + 12500 = 41,250 millionths
        ("standard", 41_250_000),
        ("priority", 41_250_000),  # its capacity is paid in advance
        ("fast", 82_500_000),  # "Fast mode": twice as much for this model
        ("batch", 20_625_000),  # "Batch processing": half
    ],
)
def test_anthropic_is_billed_by_the_reported_mode(tier: str, nano: int) -> None:
    price = priced("anthropic", "claude-opus-4-8").for_tier(tier)
    assert price.cost(Tokens(1_000, 2_000, 3_000, 400, 500)) == nano


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        # platform.claude.com/docs/en/about-claude/pricing, "Data residency pricing": 1.1 times all of it, in
        # fast mode and in batches too.
        ("standard_us", 45_375_000),  # 41,250 x 1.1
        ("priority_us", 45_375_000),
        ("fast_us", 90_750_000),
        ("batch_us", 22_687_500),
    ],
)
def test_inference_in_the_us_costs_a_tenth_more(tier: str, nano: int) -> None:
    used = Tokens(1_000, 2_000, 3_000, 400, 500)
    assert priced("anthropic", "claude-opus-4-8").for_tier(tier).cost(used) == nano
    assert (
        priced("anthropic", "claude-opus-4-8").for_tier(tier).cost(Tokens(), {"web_search": 1}) == 10_000_000
    )
    older = priced("anthropic", "claude-sonnet-4-5")
    assert older.for_tier("standard_us") == older.for_tier("standard")
    assert not any(
        name.endswith("us")
        for model in ("claude-haiku-4-5-20251001", "claude-3-haiku")
        for name, _ in bundled_service_tiers(model)
    )


def bundled_service_tiers(model: str) -> tuple[tuple[str, TierRates], ...]:
    return priced("anthropic", model).service_tiers


@pytest.mark.parametrize(
    ("requested_tier", "nano"),
    [
        ("auto", 11_000_000_000),
        ("auto_global", 10_000_000_000),
        ("fast", 22_000_000_000),
        ("fast_global", 20_000_000_000),
    ],
)
def test_unspecified_region_reserves_at_us_price(requested_tier: str, nano: int) -> None:
    """The request writes a million tokens to a cache for an hour."""
    assert priced("anthropic", "claude-opus-4-8").max_cost(requested_tier).upper_bound(1_000_000, 0) == nano


def test_server_side_tools_are_billed_per_call() -> None:
    # 10 USD for 1,000 searches at Anthropic; at OpenAI as well, and 2.50 for 1,000 file searches, 0.03 for a
    # container of 1 GB.
    assert (
        priced("openai", "o3-mini").cost(Tokens(), {"web_search": 1, "file_search": 1, "shell_4g": 1})
        == 132_500_000
    )
    assert (
        priced("anthropic", "claude-opus-4-8").cost(Tokens(), {"web_search": 3, "web_fetch": 9}) == 30_000_000
    )
    extras = {"web_search": 2, "file_search": 4, "code_interpreter": 1}
    assert priced("openai", "gpt-5").cost(Tokens(), extras) == 20_000_000 + 10_000_000 + 30_000_000


def test_preview_search_costs_more_for_non_reasoning_models() -> None:
    assert priced("openai", "gpt-4.1").cost(Tokens(), {"web_search_preview": 1}) == 25_000_000
    assert priced("openai", "gpt-5").cost(Tokens(), {"web_search_preview": 1}) == 10_000_000


def test_google_bills_searches_per_prompt_or_per_query() -> None:
    # ai.google.dev/gemini-api/docs/pricing: 35 USD for 1,000 grounded prompts (2.5), 14 for 1,000 queries (3
    # and later).
    assert priced("google", "gemini-2.5-flash").cost(Tokens(), {"web_search": 4}) == 35_000_000
    assert priced("google", "gemini-3.8-flash").cost(Tokens(), {"web_search": 4}) == 4 * 14_000_000


def test_google_bills_maps_lookups_per_prompt_or_per_query() -> None:
    # ai.google.dev/gemini-api/docs/pricing: 25 USD for 1,000 grounded prompts (2.5), 14 for 1,000 queries (3
    # and later).
    assert priced("google", "gemini-2.5-flash").cost(Tokens(), {"google_maps": 4}) == 25_000_000
    assert priced("google", "gemini-3.8-flash").cost(Tokens(), {"google_maps": 4}) == 4 * 14_000_000
    assert priced("google", "gemini-3.8-flash").max_cost("", {"google_maps": 10}).fees_nano == 10 * 14_000_000


def test_perplexity_bills_requests_searches_and_reasoning_apart() -> None:
    # sonar: 1 and 1, and 12 USD for 1,000 requests; sonar-deep-research: 2 and 8, reasoning 3, 5 USD for
    # 1,000 searches.
    assert priced("perplexity", "sonar").cost(Tokens(input=1_000, output=1_000)) == 12_000_000 + 2_000_000
    deep = priced("perplexity", "sonar-deep-research")
    used = Tokens(input=1_000, output=5_000, reasoning=4_000)
    assert deep.cost(used, {"web_search": 2}) == 2_000_000 + 8_000_000 + 12_000_000 + 10_000_000
    assert [line.kind for line in break_down(deep, used, {"web_search": 2}, 32_000_000)] == [
        "input",
        "output",
        "reasoning",
        "web_search",
    ]


def test_audio_and_images_cost_more_than_text() -> None:
    # ai.google.dev/gemini-api/docs/pricing: gemini-2.5-flash 0.30, for audio 1; gemini-2.5-flash-image 30 out
    # instead of 2.50.
    used = Tokens(input=10_000, output=2_000)
    assert (
        priced("google", "gemini-2.5-flash").cost(used, {"input_audio": 4_000})
        == 6_000 * 300 + 4_000 * 1_000 + 2_000 * 2_500
    )
    assert (
        priced("google", "gemini-2.5-flash-image").cost(used, {"output_image": 1_290})
        == 3_000_000 + 710 * 2_500 + 1_290 * 30_000
    )
    # developers.openai.com/api/docs/pricing, gpt-audio: 2.50 and 10 for text, 32 and 64 for audio.
    audio = priced("openai", "gpt-audio")
    assert (
        audio.cost(used, {"input_audio": 10_000, "output_audio": 2_000}) == 10_000 * 32_000 + 2_000 * 64_000
    )
    assert (
        audio.max_cost("", {"input_audio": 10_000}).upper_bound(10_000, 2_000)
        == 10_000 * 32_000 + 2_000 * 64_000
    )


def test_cached_audio_has_its_own_rate() -> None:
    # ai.google.dev/gemini-api/docs/pricing, gemini-2.5-flash: cached text 0.03, cached audio 0.10.
    used = Tokens(input=1_000, cache_read=5_000)
    assert priced("google", "gemini-2.5-flash").cost(used, {"input_audio": 400, "cached_audio": 4_000}) == (
        600 * 300 + 400 * 1_000 + 1_000 * 30 + 4_000 * 100
    )


def test_audio_price_missing_from_the_bundle_is_added() -> None:
    # developers.openai.com/api/docs/models/gpt-4o-audio-preview: 2.50 and 10 for text, 40 and 80 for audio.
    audio = priced("openai", "gpt-4o-audio-preview-2025-06-03")
    assert (
        audio.cost(Tokens(input=10, output=20), {"input_audio": 10, "output_audio": 20})
        == 10 * 40_000 + 20 * 80_000
    )
    assert priced("openai", "gpt-4o-mini-audio-preview").cost(Tokens(output=1), {"output_audio": 1}) == 20_000


def test_tool_images_are_billed_at_the_image_model_rates() -> None:
    # developers.openai.com/api/docs/pricing, "Image generation models": gpt-image-2 and later 5 for text, 8
    # and 2 for images, 30 for image output; gpt-image-1.5 10 for text output and 32 for image output;
    # gpt-image-1-mini 2, 2.50 and 8.
    chat = priced("openai", "gpt-5")
    used = {
        "image_generation": 2,
        "gpt-image-2.6-sunburst: text_input": 100,
        "gpt-image-2.6-sunburst: cached_text_input": 40,
        "gpt-image-2.6-sunburst: image_input": 1_000,
        "gpt-image-2.6-sunburst: cached_image_input": 300,
        "gpt-image-2.6-sunburst: image_output": 7_024,
    }
    assert (
        chat.cost(Tokens(), used) == 100 * 5_000 + 40 * 1_250 + 1_000 * 8_000 + 300 * 2_000 + 7_024 * 30_000
    )
    assert (
        chat.cost(Tokens(), {"gpt-image-1.5-2025-12-16: text_output": 10, "gpt-image-1.5: image_output": 10})
        == 100_000 + 320_000
    )
    assert chat.cost(Tokens(), {"gpt-image-1-mini: estimated_image_output": 1_000}) == 8_000_000
    lines = break_down(chat, Tokens(), used, chat.cost(Tokens(), used))
    assert [(line.kind, line.quantity, line.rate) for line in lines][-1] == (
        "gpt-image-2.6-sunburst: image_output",
        7_024,
        30 * 10**9,
    )


def test_unknown_image_model_costs_the_highest_rate() -> None:
    assert priced("openai", "gpt-5").cost(Tokens(), {"gpt-image-9: image_output": 1_000}) == 40_000_000


def test_known_image_models_resolve_to_their_own_rates() -> None:
    chat = priced("openai", "gpt-5")
    for model in ("gpt-image-2.5-flare", "gpt-image-2.5-sunburst", "gpt-image-2-2026-04-21"):
        own = priced("openai", model)
        assert chat.cost(Tokens(), {f"{model}: image_output": 1_000}) == own.cost(
            Tokens(output=1_000), {"output_image": 1_000}
        )
        assert chat.cost(Tokens(), {f"{model}: image_input": 1_000}) == own.cost(
            Tokens(input=1_000), {"input_image": 1_000}
        )


def test_search_model_charges_the_search_of_each_request() -> None:
    assert (
        priced("openai", "gpt-4o-search-preview").cost(Tokens(input=1_000_000)) == 2_500_000_000 + 25_000_000
    )


def test_auto_service_tier_reserves_at_the_highest_price() -> None:
    price = priced("openai", "gpt-5")
    assert price.max_cost("auto").upper_bound(1_000_000, 0) == 2_500_000_000
    assert price.max_cost("default").upper_bound(1_000_000, 0) == 1_250_000_000
    assert price.max_cost("flex").upper_bound(1_000_000, 0) == 1_250_000_000


def test_tool_input_tokens_are_reserved() -> None:
    price = priced("anthropic", "claude-opus-4-8")
    assert (
        price.max_cost("_global", {"web_search": 2}).upper_bound(0, 0) == 2 * 10_000_000 + 2 * 25_000 * 10_000
    )


def test_known_models_have_prices() -> None:
    price = bundled_price("openai", "gpt-4o-mini")
    assert price is not None
    assert (price.base.input, price.base.cache_read, price.base.output) == (
        150_000_000,
        75_000_000,
        600_000_000,
    )


def test_longer_cache_lifetime_costs_no_less() -> None:
    price = bundled_price("anthropic", "claude-sonnet-4-5")
    assert price is not None
    assert price.base.cache_read < price.base.input < price.base.cache_write_5m <= price.base.cache_write_1h


def test_price_follows_the_time_of_day_to_the_half_hour() -> None:
    before, after = (
        bundled_price("deepseek", "deepseek-chat", datetime(2025, 6, 1, 0, minute, tzinfo=UTC))
        for minute in (29, 31)
    )
    assert before is not None and after is not None and before.base.output != after.base.output


def test_unknown_model_is_unpriced_and_not_free() -> None:
    assert bundled_price("openai", "no-such-model") is None

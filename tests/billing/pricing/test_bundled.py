"""Costs with bundled prices equal the costs by the vendors' price lists."""

from datetime import UTC, datetime

import pytest

from billing.pricing import Price, TierRates, Tokens, break_down, bundled_price

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


@pytest.mark.parametrize(
    ("prompt", "nano"),
    [
        # developers.openai.com/api/docs/models/gpt-6-astra: 10 in, 1 cached, 12.50 written, 50 out. Above
        # 272,000 tokens twice as much for all tokens of the prompt, and 1.5 times for the output.
        (Tokens(input=72_000, cache_read=100_000, cache_write_5m=100_000, output=1_000), 2_120_000_000),
        (Tokens(input=72_001, cache_read=100_000, cache_write_5m=100_000, output=1_000), 4_215_020_000),
    ],
)
def test_long_prompts_cost_more_for_all_of_their_tokens(prompt: Tokens, nano: int) -> None:
    assert priced("openai", "gpt-6-astra").cost(prompt) == nano


@pytest.mark.parametrize(
    ("provider", "model", "nano_per_token"),
    [
        # A twentieth of the input: platform.claude.com/docs/en/about-claude/pricing, "Model pricing".
        ("anthropic", "claude-opus-5-5", 200),
        ("anthropic", "claude-sonnet-5-5", 100),
        # A tenth: the same page, and developers.openai.com/api/docs/pricing.
        ("anthropic", "claude-haiku-5-5", 10),
        ("anthropic", "claude-opus-4-8", 500),
        ("openai", "gpt-5.5", 500),
    ],
)
def test_cache_reads_have_the_rate_of_their_model(provider: str, model: str, nano_per_token: int) -> None:
    assert priced(provider, model).cost(Tokens(cache_read=1_000)) == 1_000 * nano_per_token


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

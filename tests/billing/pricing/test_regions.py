"""Inference at an endpoint for one region costs 10% more for the models that the vendors name."""

from datetime import UTC, datetime

import pytest

from billing.pricing import Price, Tokens, bundled_price

AT = datetime(2026, 11, 1, tzinfo=UTC)
USED = Tokens(input=10_000, cache_read=10_000, cache_write_5m=10_000, output=10_000, cache_write_12h=10_000)


def priced(provider: str, model: str, *, regional: bool) -> Price:
    price = bundled_price(provider, model, AT, regional=regional)
    assert price is not None
    return price


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-5.4"),
        ("openai", "gpt-5.4-mini"),
        ("openai", "gpt-5.5-2026-04-23"),
        ("openai", "gpt-5.6-sol"),
        ("openai", "gpt-5-5"),
        ("openai", "gpt-6-astra"),
        ("openai", "gpt-6.2-sol"),
        ("x-ai", "grok-4"),
    ],
)
def test_tokens_cost_a_tenth_more_at_a_regional_endpoint(provider: str, model: str) -> None:
    elsewhere = priced(provider, model, regional=False).cost(USED)
    assert priced(provider, model, regional=True).cost(USED) == elsewhere * 11 // 10


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        # developers.openai.com/api/docs/guides/data-residency: models released before March 5, 2026
        ("openai", "gpt-5"),
        ("openai", "gpt-5-2025-08-07"),
        ("openai", "gpt-5-mini"),
        ("openai", "gpt-5.1-codex"),
        ("openai", "gpt-5.2"),
        ("openai", "gpt-5.3-codex"),
        ("openai", "gpt-4o"),
        ("openai", "gpt-4.1"),
        ("openai", "o3"),
        ("openai", "gpt-audio"),
        ("openai", "gpt-image-1.5"),
        # No source names a surcharge.
        ("google", "gemini-2.5-flash"),
    ],
)
def test_older_models_cost_the_same_at_a_regional_endpoint(provider: str, model: str) -> None:
    assert priced(provider, model, regional=True) == priced(provider, model, regional=False)


def test_all_tiers_and_long_prompts_have_the_surcharge() -> None:
    regional, elsewhere = (priced("openai", "gpt-6-astra", regional=regional) for regional in (True, False))
    for tier in ("priority", "flex", "default"):
        tier_cost = elsewhere.for_tier(tier).cost(USED)
        assert regional.for_tier(tier).cost(USED) == tier_cost * 11 // 10
    long = Tokens(input=300_000, output=1_000)
    assert regional.cost(long) == elsewhere.cost(long) * 11 // 10


def test_the_reservation_has_the_surcharge() -> None:
    regional, elsewhere = (priced("openai", "gpt-6-astra", regional=regional) for regional in (True, False))
    assert regional.max_cost("").upper_bound(1000, 1000) == (
        elsewhere.max_cost("").upper_bound(1000, 1000) * 11 // 10
    )


def test_fees_of_tools_have_no_surcharge() -> None:
    regional = priced("openai", "gpt-6-astra", regional=True)
    assert regional.cost(Tokens(), {"web_search": 1}) == 10_000_000
    assert regional.source.endswith(", regional endpoint")


def test_tokens_of_other_media_have_the_surcharge() -> None:
    used, extras = Tokens(input=1_000, output=1_000), {"output_image": 500}
    regional, elsewhere = (priced("openai", "gpt-image-2", regional=regional) for regional in (True, False))
    assert regional.cost(used, extras) == elsewhere.cost(used, extras) * 11 // 10

"""The supplement prices models that genai-prices lacks, and only those."""

from datetime import date

import pytest

from billing.pricing import Price, Tokens, bundled_price, find_model
from billing.pricing.supplement import SUPPLEMENT, SupplementRow, find_row

MILLION = 1_000_000
USD = 10**9

rows = pytest.mark.parametrize("row", SUPPLEMENT, ids=lambda row: row.pattern)


def priced(provider: str, model: str) -> Price:
    price = bundled_price(provider, model)
    assert price is not None
    return price


@rows
def test_genai_prices_lacks_the_models_of_the_supplement(row: SupplementRow) -> None:
    name = row.pattern.split("(")[0].replace("\\", "")
    assert find_row(row.provider_id, name) == row
    info = find_model(row.provider_id, name)
    assert info is None, f"genai-prices has {name} as {info.id}: delete its row from the supplement."


@rows
def test_rows_say_when_and_where_their_price_was_read(row: SupplementRow) -> None:
    assert date.fromisoformat(row.checked) >= date(2026, 1, 1)
    assert row.sources and all("/" in source for source in row.sources)
    assert row.checked in row.name


@pytest.mark.parametrize(
    ("model", "nano"),
    [
        # 100,000 tokens of input, cache reads, and output at 8, 0.40, and 40 USD per million; cache writes
        # at 1.25 times the input: 0.8 + 0.04 + 1 + 4 USD
        ("gpt-6.2-astra", 5_840_000_000),
        ("gpt-6.2-astra-2026-11-17", 5_840_000_000),
        # 2, 0.10, 10: a quarter of it
        ("gpt-6.2-sol", 1_460_000_000),
    ],
)
def test_short_prompts_cost_the_standard_rates(model: str, nano: int) -> None:
    used = Tokens(input=100_000, cache_read=100_000, output=100_000)
    written = Tokens(cache_write_5m=100_000)
    assert priced("openai", model).cost(used) + priced("openai", model).cost(written) == nano


def test_prompts_above_272k_tokens_cost_more_for_all_tokens() -> None:
    price = priced("openai", "gpt-6.2-sol")
    # 300,000 tokens at 4 USD per million, and 100,000 of output at 15
    assert price.cost(Tokens(input=300_000, output=100_000)) == 1_200_000_000 + 1_500_000_000


def test_mythos_costs_what_its_announcement_says() -> None:
    used = Tokens(MILLION, MILLION, MILLION, MILLION, MILLION)
    assert priced("anthropic", "claude-mythos-5").cost(used) == int((10 + 1 + 12.5 + 20 + 50) * USD)
    assert priced("anthropic", "claude-mythos-5-1").cost(used) == int((10 + 0.25 + 12.5 + 20 + 50) * USD)


def test_records_name_the_supplement_as_their_source() -> None:
    assert priced("openai", "gpt-6.2-sol").source == "supplement of 2026-11-18 to genai-prices"
    assert priced("openai", "gpt-6-astra").source.startswith("genai-prices ")


def test_service_tiers_of_a_supplement_row_are_unknown() -> None:
    price = priced("openai", "gpt-6.2-sol")
    assert price.tier_rates("priority") is None
    assert price.tier_rates("default") == price


def test_models_beside_those_of_the_supplement_have_no_price() -> None:
    assert bundled_price("openai", "gpt-6.2-sol-pro") is None
    assert bundled_price("groq", "gpt-6.2-sol") is None

"""What a request costs, and that no request costs more than was held for it."""

from hypothesis import given
from hypothesis import strategies as st

from billing.prices import Price, Rates, Tokens, bundled, flat

rate = st.integers(0, 10**12)
rates = st.builds(Rates, rate, rate, rate, rate, rate)
tiers = st.dictionaries(st.integers(1, 10**6), rates, max_size=3).map(lambda found: tuple(sorted(found.items(), key=lambda tier: tier[0])))
prices = st.builds(Price, base=rates, source=st.just("test"), tiers=tiers)
count = st.integers(0, 10**6)


@given(prices, count, count, count, count, count, count)
def test_no_split_of_the_input_costs_more_than_the_bound(
    price: Price, fresh: int, read: int, short: int, long: int, output: int, spare: int
) -> None:
    tokens = Tokens(input=fresh, cache_read=read, cache_write_5m=short, cache_write_1h=long, output=output)
    assert price.cost(tokens) <= price.bound(tokens.prompt + spare, output)


@given(prices, count, st.integers(0, 10**15))
def test_the_output_that_an_amount_affords_does_not_cost_more_than_the_amount(price: Price, prompt: int, amount: int) -> None:
    output = price.affordable_output(amount, prompt)
    assert output == 0 or price.bound(prompt, output) <= amount


def test_a_cost_is_rounded_once_over_all_buckets() -> None:
    price = Price(Rates(input=400_000, cache_read=400_000, cache_write_5m=0, cache_write_1h=0, output=0), "test")
    assert price.cost(Tokens(input=1)) == 0
    assert price.cost(Tokens(input=1, cache_read=1)) == 1


def test_a_tier_applies_to_all_tokens_of_a_request_beyond_its_start() -> None:
    cheap, dear = flat("1", "2", "test").base, flat("10", "20", "test").base
    price = Price(cheap, "test", ((200_000, dear),))
    assert price.cost(Tokens(input=200_000, output=1_000_000)) == 2_200_000_000
    assert price.cost(Tokens(input=100_000, cache_read=100_001, output=1_000_000)) == 22_000_010_000


def test_reasoning_is_part_of_the_output_and_not_charged_twice() -> None:
    assert flat("1", "2", "test").cost(Tokens(output=1_000_000, reasoning=900_000)) == 2_000_000_000


def test_known_models_have_prices() -> None:
    price = bundled("openai", "gpt-4o-mini")
    assert price is not None
    assert (price.base.input, price.base.cache_read, price.base.output) == (150_000_000, 75_000_000, 600_000_000)


def test_a_cache_that_lives_longer_costs_no_less_to_write() -> None:
    price = bundled("anthropic", "claude-sonnet-4-5")
    assert price is not None
    assert price.base.cache_read < price.base.input < price.base.cache_write_5m <= price.base.cache_write_1h


def test_an_unknown_model_is_unpriced_and_not_free() -> None:
    assert bundled("openai", "no-such-model") is None

"""The cost of a request is exact, and never exceeds the reserved amount."""

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
    written_12h = draw(st.sampled_from([0, 0, 1000]))
    tokens = Tokens(
        draw(count), draw(count), draw(count), draw(count), output, draw(st.integers(0, output)), written_12h
    )
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
    max_cost = price.max_cost(requested_tier, limits, writes_12h_cache=bool(tokens.cache_write_12h))
    assert price.for_tier(billed_tier).cost(tokens, extras) <= max_cost.upper_bound(bound, tokens.output)


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
    """The amount `remaining` is for output: the fee and 100 tokens of input are subtracted already."""
    max_cost = Price(base=rates, request_fee_nano=fee, source="test").max_cost()
    amount = max_cost.upper_bound(100, 0) + remaining
    assert max_cost.max_output_for(amount, 100) == affordable


def test_write_for_12_hours_costs_twice_a_shorter_one_by_default() -> None:
    price = Price(base=Rates(4, 1, 5, 8, 20), source="test")
    used = Tokens(cache_write_12h=10**6)
    assert price.cost(used) == 10
    assert price.max_cost(writes_12h_cache=True).upper_bound(10**6, 0) == 10
    assert price.max_cost().upper_bound(10**6, 0) == 8
    assert Price(base=Rates(4, 1, 5, 8, 20, cache_write_12h=30), source="test").cost(used) == 30


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

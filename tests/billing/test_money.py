"""Amounts are converted to text and back exactly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.money import MAX_AMOUNT_NANO, NANO, InvalidAmount, decimal_usd, format_usd, parse_usd


@given(st.integers(0, MAX_AMOUNT_NANO))
def test_amount_survives_its_decimal_text(nano: int) -> None:
    assert parse_usd(decimal_usd(nano)) == nano


@pytest.mark.parametrize(
    ("text", "nano"),
    [("12.50", 12_500_000_000), ("$0.000000001", 1), (" 3 ", 3 * NANO), ("1e-3", 1_000_000), ("-0", 0)],
)
def test_it_parses_dollars(text: str, nano: int) -> None:
    assert parse_usd(text) == nano


@pytest.mark.parametrize("text", ["", "ten", "-1", "nan", "inf", "1,50", "0.0000000001", "1000000000.01"])
def test_it_rejects_invalid_amounts(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse_usd(text)


@pytest.mark.parametrize(
    ("nano", "text"),
    [
        (0, "$0.00"),
        (1_234_500_000_000, "$1,234.50"),
        (1_995_000_000, "$2.00"),
        (-1_500_000_000, "-$1.50"),
        (12_000, "$0.000012"),
        (-1, "-$0.000000001"),
        (10_000_000, "$0.01"),
    ],
)
def test_it_shows_cents_to_people_and_every_digit_below_one_cent(nano: int, text: str) -> None:
    assert format_usd(nano) == text

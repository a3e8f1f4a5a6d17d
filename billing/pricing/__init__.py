"""Prices of models, and the cost of a request.

This module imports no Django, because the models import it. The modules `forms`, `price_list` and `reprice`
use Django, so they must be imported directly.
"""

from billing.pricing.bundled import bundled_price, find_model
from billing.pricing.cost_breakdown import CostLine, break_down
from billing.pricing.price import (
    PER_MILLION,
    Fee,
    ImageModelRates,
    MaxCost,
    Price,
    Rates,
    TierRates,
    Tokens,
    simple_price,
)

__all__ = [
    "PER_MILLION",
    "CostLine",
    "Fee",
    "ImageModelRates",
    "MaxCost",
    "Price",
    "Rates",
    "TierRates",
    "Tokens",
    "break_down",
    "bundled_price",
    "find_model",
    "simple_price",
]

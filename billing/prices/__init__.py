"""Prices of models, and what a request costs. Nothing here knows Django."""

from billing.prices.catalogue import bundled, find
from billing.prices.explained import Line, explain
from billing.prices.price import PER_MILLION, Ceiling, Fee, PictureRates, Price, Rates, Schedule, Tokens, flat

__all__ = [
    "PER_MILLION",
    "Ceiling",
    "Fee",
    "Line",
    "PictureRates",
    "Price",
    "Rates",
    "Schedule",
    "Tokens",
    "bundled",
    "explain",
    "find",
    "flat",
]

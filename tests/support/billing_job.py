"""A request as the billing provider reads it, with its usage and its cost."""

from dataclasses import dataclass
from typing import Any

from billing.pricing import Price, Tokens

UNLISTED_MULTIPLE = 6
"""The factor on the standard price for tiers that have no rates in the price list."""
INPUT, CACHED = 10, 4
DEFAULT_OUTPUT = 3000
CALLS_OF_A_TOOL = 2
STANDARD_TIERS = ("", "auto", "default", "standard", "standard_only", "unspecified", "flex", "scale")
"""Tiers that cost at most the standard price. `flex` costs less, and `scale` is paid in advance."""


@dataclass
class Job:
    """A request as the provider reads it."""

    model: str
    streams: bool
    output_limits: list[Any]
    choices: Any = 1
    tier: str = ""
    region: str = ""
    searches: bool = False

    @property
    def output(self) -> int:
        limits = [limit for limit in self.output_limits if isinstance(limit, int) and limit > 0]
        choices = self.choices if isinstance(self.choices, int) and self.choices > 0 else 1
        return (max(limits) if limits else DEFAULT_OUTPUT) * choices

    @property
    def tokens(self) -> Tokens:
        """Return the used tokens. A part of the input was cached."""
        return Tokens(input=INPUT - CACHED, cache_read=CACHED, output=self.output)

    @property
    def extras(self) -> dict[str, int]:
        return {"web_search": CALLS_OF_A_TOOL} if self.searches else {}

    @property
    def has_standard_tier(self) -> bool:
        return self.tier in STANDARD_TIERS

    @property
    def billed_tier(self) -> str:
        return self.region if self.region == "us" and self.has_standard_tier else self.tier

    def cost_nano(self, price: Price) -> int:
        """Return the cost with this price, in nano-USD."""
        known = {name for name, _ in price.service_tiers}
        cost = price.for_tier(self.billed_tier).cost(self.tokens, self.extras)
        return cost if self.has_standard_tier or self.tier in known else cost * UNLISTED_MULTIPLE

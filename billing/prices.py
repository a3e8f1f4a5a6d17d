"""Prices of models, and what a request costs.

Rates are integers: nano-USD per million tokens, so that 0.15 USD per million is 150,000,000. A cost is summed exactly over
the buckets and rounded once, half up, to whole nano-USD. The rates come bundled with genai-prices; nothing is fetched.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

import msgspec
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices

from billing.money import NANO

PER_MILLION = 10**6
SOURCE = f"genai-prices {version('genai-prices')}"


class Tokens(msgspec.Struct, frozen=True):
    """Disjoint buckets: no token is in two of them. `reasoning` is that part of `output` that the client never saw."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Rates(msgspec.Struct, frozen=True):
    """Nano-USD per million tokens of each bucket."""

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int

    def cost(self, tokens: Tokens) -> int:
        exact = (
            tokens.input * self.input
            + tokens.cache_read * self.cache_read
            + tokens.cache_write_5m * self.cache_write_5m
            + tokens.cache_write_1h * self.cache_write_1h
            + tokens.output * self.output
        )
        return (exact + PER_MILLION // 2) // PER_MILLION

    @property
    def dearest_input(self) -> int:
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)


class Price(msgspec.Struct, frozen=True):
    """What a model costs. A tier (prompt tokens from which it holds, its rates) applies to all tokens of a request."""

    base: Rates
    source: str
    tiers: tuple[tuple[int, Rates], ...] = ()

    def rates(self, prompt_tokens: int) -> Rates:
        held = self.base
        for start, rates in self.tiers:
            if prompt_tokens > start:
                held = rates
        return held

    def cost(self, tokens: Tokens) -> int:
        """Nano-USD for what was used."""
        return self.rates(tokens.prompt).cost(tokens)

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-USD that a request cannot pass, however its input turns out to be cached or tiered."""
        return max(self._bound(rates, input_tokens, output_tokens) for rates in self._reachable(input_tokens))

    def affordable_output(self, amount: int, input_tokens: int) -> int:
        """Output tokens that `amount` nano-USD still pays for after the input; 0 where it does not even pay for that."""
        rest = min(
            (amount * PER_MILLION - input_tokens * rates.dearest_input) // max(rates.output, 1) for rates in self._reachable(input_tokens)
        )
        return max(rest, 0)

    def _reachable(self, input_tokens: int) -> list[Rates]:
        return [self.base, *(rates for start, rates in self.tiers if input_tokens > start)]

    @staticmethod
    def _bound(rates: Rates, input_tokens: int, output_tokens: int) -> int:
        return (input_tokens * rates.dearest_input + output_tokens * rates.output + PER_MILLION - 1) // PER_MILLION


def flat(input_usd: str, output_usd: str, source: str) -> Price:
    """A price without cache rates or tiers, from USD per million tokens."""
    paid, made = nano_per_million(Decimal(input_usd)), nano_per_million(Decimal(output_usd))
    return Price(Rates(paid, paid, paid, paid, made), source)


def bundled(provider_id: str, model: str) -> Price | None:
    """The price that genai-prices has now for a model of one of its providers; None where it has none or zero."""
    return _bundled(provider_id, model, datetime.now(UTC).replace(minute=0, second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _bundled(provider_id: str, model: str, hour: datetime) -> Price | None:
    info = find(provider_id, model)
    if info is None:
        return None
    prices = vars(info.get_prices(hour + timedelta(seconds=1)))
    starts = sorted({tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers})
    base = rates_at(prices, 0)
    if not (base.input or base.output):
        return None
    return Price(base, SOURCE, tuple((start, rates_at(prices, start)) for start in starts))


def find(provider_id: str, model: str) -> ModelInfo | None:
    """What genai-prices knows of a model at one of its providers."""
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return info


def rates_at(prices: dict[str, Decimal | TieredPrices | None], tier: int) -> Rates:
    def rate(name: str, default: int = 0) -> int:
        value = prices.get(name)
        if isinstance(value, TieredPrices):
            held = [step.price for step in value.tiers if step.start <= tier]
            value = held[-1] if held else value.base
        return default if value is None else nano_per_million(value)

    paid = rate("input_mtok")
    write = rate("cache_write_mtok", paid)
    return Rates(paid, rate("cache_read_mtok", paid), write, rate("cache_write_1h_mtok", write), rate("output_mtok"))


def nano_per_million(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value())

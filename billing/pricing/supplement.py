"""Prices of models that genai-prices does not list yet.

If genai-prices lists a model, its prices take precedence. `tests/billing/pricing/test_supplement.py` then
fails, and the row must be deleted. Only prices with a source are here. If no source names the price of a
service tier, the tier has no known price.
"""

import re
from decimal import Decimal
from typing import NamedTuple

from genai_prices.types import Tier, TieredPrices

Prices = dict[str, Decimal | TieredPrices | None]
LONG_CONTEXT_TOKENS = 272_000
"""If the prompt has more tokens, all tokens of the request cost more (OpenAI's models since GPT-5.4)."""


class SupplementRow(NamedTuple):
    """The price of one model, with fields named as in genai-prices.

    `pattern` must match the whole name of the model. `checked` is the day on which the sources were read.
    """

    provider_id: str
    pattern: str
    prices: Prices
    checked: str
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """The source of the price, as records name it."""
        return f"supplement of {self.checked} to genai-prices"


def openai_prices(input_usd: str, cached_usd: str, output_usd: str) -> Prices:
    """Return all prices of an OpenAI model (GPT-5.6 or newer), given its rates for short prompts.

    The rates of input, cached input and output are in USD per million tokens.
    A cache write costs 1.25 times the input (developers.openai.com/api/docs/guides/prompt-caching). Above
    272,000 tokens, input and caches cost twice as much, and output 1.5 times (docs/models/gpt-6-astra).
    """
    given, cached, made = Decimal(input_usd), Decimal(cached_usd), Decimal(output_usd)
    return {
        "input_mtok": long_context(given, 2),
        "cache_read_mtok": long_context(cached, 2),
        "cache_write_mtok": long_context(given * Decimal("1.25"), 2),
        "output_mtok": long_context(made, Decimal("1.5")),
    }


def long_context(usd: Decimal, factor: Decimal | int) -> TieredPrices:
    return TieredPrices(base=usd, tiers=[Tier(start=LONG_CONTEXT_TOKENS, price=usd * factor)])


def anthropic_prices(input_usd: str, cached_usd: str, output_usd: str) -> Prices:
    """Return all prices of a Claude model, given its rates of input, cached input and output.

    The rates are in USD per million tokens. The rates of cache writes and the fee of web searches are added.
    A cache write costs 1.25 times the input for 5 minutes, and twice the input for an hour
    (platform.claude.com/docs/en/build-with-claude/prompt-caching, "Pricing").
    """
    given = Decimal(input_usd)
    return {
        "input_mtok": given,
        "cache_read_mtok": Decimal(cached_usd),
        "cache_write_mtok": given * Decimal("1.25"),
        "cache_write_1h_mtok": given * 2,
        "output_mtok": Decimal(output_usd),
        "web_searches_kcount": Decimal(10),
    }


GPT_6_2_SOURCES = (
    "developers.openai.com/api/docs/models/gpt-6.2-astra and .../gpt-6.2-sol, as quoted by:",
    "github.com/BerriAI/litellm/discussions/52347",
    "github.com/akiiwa-games/AgentCompass-Router/releases/tag/v0.6.8",
    "docs.laozhang.ai/en/announcements/gpt-6-2-2026-11",
)
MYTHOS_SOURCES = (
    "platform.claude.com/docs/en/about-claude/pricing, as quoted by:",
    "docs.rs/synaps/0.10.2/synaps_cli/pricing",
)
SUPPLEMENT = (
    SupplementRow(
        "openai",
        r"gpt-6\.2-astra(-\d{4}-\d{2}-\d{2})?",
        openai_prices("8", "0.40", "40"),
        "2026-11-18",
        GPT_6_2_SOURCES,
    ),
    SupplementRow(
        "openai",
        r"gpt-6\.2-sol(-\d{4}-\d{2}-\d{2})?",
        openai_prices("2", "0.10", "10"),
        "2026-11-18",
        GPT_6_2_SOURCES,
    ),
    SupplementRow(
        "anthropic",
        r"claude-mythos-5(-\d{8})?",
        anthropic_prices("10", "1", "50"),
        "2026-10-10",
        MYTHOS_SOURCES,
    ),
    SupplementRow(
        "anthropic",
        r"claude-mythos-5-1(-\d{8})?",
        anthropic_prices("10", "0.25", "50"),
        "2026-10-10",
        MYTHOS_SOURCES,
    ),
)


def find_row(provider_id: str, model: str) -> SupplementRow | None:
    """Return the row of a model, or None."""
    rows = (row for row in SUPPLEMENT if row.provider_id == provider_id)
    return next((row for row in rows if re.fullmatch(row.pattern, model)), None)

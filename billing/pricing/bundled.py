"""Bundled prices: those of the package genai-prices, and those of its supplement (`supplement.py`)."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version
from typing import NamedTuple

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices

from billing.money import NANO
from billing.pricing.price import (
    PER_MILLION,
    US_REGION,
    Fee,
    ImageModelRates,
    Price,
    PricingTiers,
    Rates,
    TierRates,
    nano_per_million,
)
from billing.pricing.regions import at_regional_endpoint, depends_on_region, with_surcharge
from billing.pricing.supplement import Prices, find_row
from billing.pricing.tool_fees import (
    AUDIO_PRICES,
    FREE_TOOLS,
    IMAGE_MODELS,
    SEARCH_BILLED_PER_PROMPT,
    fee_per_request,
    tool_fees_for,
)

SOURCE = f"genai-prices {version('genai-prices')}"
CACHE_MINUTES = 15
"""How many minutes a price is cached. Prices only change at midnight or at half hours."""
SERVICE_TIER_KEYS = ("service_tier", "speed", "processing")
"""Keys of service tiers in genai-prices: tiers of OpenAI and Google, Anthropic's fast mode, and batches."""
STANDARD_TIERS = ("default", "standard")
"""Names that vendors use for the standard tier."""
TIERS_AT_STANDARD_RATES: dict[str, tuple[str, ...]] = {
    # `flex` is cheaper than standard processing. genai-prices has its rates only for some models
    # (developers.openai.com/api/docs/guides/flex-processing). `scale` is a commitment
    # (openai.com/api-scale-tier).
    "openai": ("flex", "scale"),
    # `priority` has the rates of a commitment. A request with `standard_only` does not use the commitment
    # (platform.claude.com/docs/en/api/service-tiers).
    "anthropic": ("priority", "standard_only"),
    # `flex` is cheaper than standard processing (ai.google.dev/gemini-api/docs/flex-inference).
    "google": ("flex",),
    # `on_demand` is the standard tier, and `flex` has the same price (console.groq.com/docs/service-tiers).
    "groq": ("on_demand", "flex"),
}
"""Other tiers that cost at most the standard rates, by the provider's name in genai-prices.

The gateway charges them at the standard rates if genai-prices has no rates for them. A tier that is neither
here nor in genai-prices has no known price.
"""
MODALITIES = ("audio", "image", "video")
TOOL_PRICE_FIELDS = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}


def bundled_price(
    provider_id: str, model: str, at: datetime | None = None, *, regional: bool = False
) -> Price | None:
    """Return the price of a model at a given time (default: now), or None if it is unknown or zero.

    `provider_id` is the provider's name in genai-prices. `regional`: the price at the provider's endpoint for
    one region.
    """
    at = at or datetime.now(UTC)
    rounded_minute = at.minute // CACHE_MINUTES * CACHE_MINUTES
    rounded_at = at.replace(minute=rounded_minute, second=0, microsecond=0)
    price = _bundled_price(provider_id, model, rounded_at)
    if price is None or not (regional and depends_on_region(provider_id, model)):
        return price
    return at_regional_endpoint(price)


@lru_cache(maxsize=4096)
def _bundled_price(provider_id: str, model: str, rounded_at: datetime) -> Price | None:
    at = rounded_at + timedelta(seconds=1)
    listing = find_listing(provider_id, model, at)
    if listing is None:
        return None
    prices = listing.prices
    standard = tier_rates_from(prices)
    if not (standard.base.input or standard.base.output):
        return None
    search_fee = fee_per_request(model) if provider_id == "openai" else 0
    tiers = tuple((name, rates) for name, rates in listing.tiers if rates != standard)
    has_regions = provider_id == "anthropic" and depends_on_region(provider_id, model)
    if has_regions:
        tiers = (*tiers, *us_tiers(standard, tiers))
    return Price(
        base=standard.base,
        tiers=standard.tiers,
        source=listing.source,
        request_fee_nano=nano_per_thousand(prices.get("requests_kcount")) or search_fee,
        extra_fees=(
            *tool_fees(provider_id, model, prices),
            *modality_surcharges({**prices, **audio_prices(provider_id, model)}, standard.base),
        ),
        service_tiers=tiers,
        standard_tiers=(
            *standard_tiers(provider_id, listing.tiers, standard),
            *(() if has_regions else (US_REGION,)),
        ),
        free_tools=FREE_TOOLS.get(provider_id, ()),
        image_models=image_models_at(at) if provider_id == "openai" else (),
    )


class Listing(NamedTuple):
    """The entry of a model in a list of prices: its standard prices, and the rates of other service tiers."""

    prices: Prices
    tiers: tuple[tuple[str, TierRates], ...]
    source: str


def find_listing(provider_id: str, model: str, at: datetime) -> Listing | None:
    """Return the entry of a model in genai-prices, or in the supplement if genai-prices has none."""
    if info := find_model(provider_id, model):
        return Listing(vars(info.get_prices(at)), tuple(service_tiers(info, at)), SOURCE)
    row = find_row(provider_id, model)
    return Listing(row.prices, (), row.name) if row else None


def find_model(provider_id: str, model: str) -> ModelInfo | None:
    """Return the entry of a model in genai-prices, or None."""
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return info


def service_tiers(info: ModelInfo, at: datetime) -> Iterator[tuple[str, TierRates]]:
    """Yield the name and the rates of each service tier of a model, except for the standard tier."""
    for variant in info.price_variants or ():
        for key, name in variant.when.items():
            if len(variant.when) == 1 and key in SERVICE_TIER_KEYS and name not in STANDARD_TIERS:
                yield name, tier_rates_from(vars(info.get_prices(at, variant.when)))


def standard_tiers(
    provider_id: str, listed: Iterable[tuple[str, TierRates]], standard: TierRates
) -> tuple[str, ...]:
    """Return the names of tiers to charge at the standard rates.

    They are the tiers that have these rates, and the tiers without rates in `TIERS_AT_STANDARD_RATES`.
    """
    rates_by_name = dict(listed)
    same = [name for name, rates in rates_by_name.items() if rates == standard]
    cheaper = [name for name in TIERS_AT_STANDARD_RATES.get(provider_id, ()) if name not in rates_by_name]
    return (*STANDARD_TIERS, *same, *cheaper)


def us_tiers(standard: TierRates, tiers: Iterable[tuple[str, TierRates]]) -> Iterator[tuple[str, TierRates]]:
    yield US_REGION, with_surcharge(standard)
    for name, tier_rates in tiers:
        yield f"{name}_{US_REGION}", with_surcharge(tier_rates)


def tier_rates_from(prices: Prices) -> TierRates:
    starts = sorted(
        {tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers}
    )
    tiers: PricingTiers = tuple((start, rates_at(prices, start)) for start in starts)
    return TierRates(rates_at(prices, 0), tiers)


def rates_at(prices: Prices, prompt_tokens: int) -> Rates:
    def rate(name: str) -> int | None:
        value = prices.get(name)
        if isinstance(value, TieredPrices):
            reached = [tier.price for tier in value.tiers if tier.start <= prompt_tokens]
            value = reached[-1] if reached else value.base
        return None if value is None else nano_per_million(value)

    input_rate = rate("input_mtok") or 0
    write = or_default(rate("cache_write_mtok"), input_rate)
    return Rates(
        input_rate,
        or_default(rate("cache_read_mtok"), input_rate),
        or_default(rate("cache_write_5m_mtok"), write),
        or_default(rate("cache_write_1h_mtok"), write),
        rate("output_mtok") or 0,
        rate("output_reasoning_mtok"),
    )


def or_default(rate: int | None, default: int) -> int:
    return default if rate is None else rate


def tool_fees(provider_id: str, model: str, prices: Prices) -> tuple[Fee, ...]:
    fees = tool_fees_for(provider_id, model)
    for kind, name in TOOL_PRICE_FIELDS.items():
        if nano := nano_per_thousand(prices.get(name)):
            fees[kind] = Fee(kind, nano, per_request=model.startswith(SEARCH_BILLED_PER_PROMPT))
    return tuple(fees.values())


def modality_surcharges(prices: Prices, text: Rates) -> list[Fee]:
    """Return the surcharges of audio, image and video tokens over text tokens, per million tokens.

    They are surcharges because vendors include these tokens in the counts of input and output. If cached
    tokens of a modality have no price, they are billed like other tokens of that modality.
    """
    price_and_text_rate: dict[str, tuple[Decimal | TieredPrices | None, int]] = {}
    for name in MODALITIES:
        input_price, cached_price, output_price = (
            prices.get(f"input_{name}_mtok"),
            prices.get(f"cache_{name}_read_mtok"),
            prices.get(f"output_{name}_mtok"),
        )
        price_and_text_rate |= {
            f"input_{name}": (input_price, text.input),
            f"cached_{name}": (cached_price or input_price, text.cache_read),
            f"output_{name}": (output_price, text.output),
        }
    surcharges = {
        kind: nano_per_million(price) - rate
        for kind, (price, rate) in price_and_text_rate.items()
        if isinstance(price, Decimal)
    }
    return [Fee(kind, nano, per=PER_MILLION) for kind, nano in surcharges.items() if nano > 0]


def audio_prices(provider_id: str, model: str) -> Prices:
    names = [name for name in AUDIO_PRICES if provider_id == "openai" and model.startswith(name)]
    return {
        f"{side}_audio_mtok": Decimal(usd)
        for name in names
        for side, usd in zip(("input", "output"), AUDIO_PRICES[name], strict=True)
    }


def image_models_at(at: datetime) -> tuple[ImageModelRates, ...]:
    """Return the rates of the models that OpenAI's image generation tool uses."""
    return tuple(
        image_rates(name, vars(info.get_prices(at)))
        for name in IMAGE_MODELS
        if (info := find_model("openai", name))
    )


def image_rates(name: str, prices: Prices) -> ImageModelRates:
    text = rates_at(prices, 0)

    def rate(key: str, default: int) -> int:
        price = prices.get(key)
        return nano_per_million(price) if isinstance(price, Decimal) else default

    input_image = rate("input_image_mtok", text.input)
    cached, output_image = rate("cache_image_read_mtok", input_image), rate("output_image_mtok", text.output)
    return ImageModelRates(name, text.input, text.cache_read, input_image, cached, text.output, output_image)


def nano_per_thousand(usd: Decimal | TieredPrices | None) -> int:
    """Convert USD per thousand units to nano-USD per unit."""
    return int(usd * NANO / 1000) if isinstance(usd, Decimal) else 0

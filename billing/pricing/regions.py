"""Prices of inference in one region, which costs 10% more at some vendors."""

import re

from msgspec.structs import asdict, replace

from billing.pricing.price import PER_MILLION, Fee, Price, Rates, TierRates

SURCHARGE_TENTHS = 11
"""The price of inference in one region, in tenths of the global price. It applies to tokens in all tiers."""
ANTHROPIC_WITHOUT_REGIONS = re.compile(
    r"claude-(?:v1|2|3|instant|4-|opus-4-(?:0|1|5|2025)|(?:sonnet|haiku)-4-(?:0|5|2025))"
)
"""Models before Claude 4.6. Their price does not depend on the region.

Source: platform.claude.com/docs/en/about-claude/pricing, "Data residency pricing".
"""
OPENAI_WITHOUT_REGIONS = re.compile(
    r"(?:ft:)?(?:gpt-(?:3|4|oss|image-1|audio(?:$|-mini|-2025))|gpt-5(?:$|-(?!\d)|-2025|[.-][0-3](?!\d))"
    r"|o[134](?!\d)|chatgpt-|codex-mini|computer-use|text-|babbage|davinci)"
)
"""Models that were released before March 5, 2026. Their price does not depend on the region.

Source: developers.openai.com/api/docs/guides/data-residency. All other models have the surcharge.
"""


def depends_on_region(provider_id: str, model: str) -> bool:
    """Return whether inference in one region costs more than global inference.

    At xAI, this is true for every model of its regional endpoints (docs.x.ai/developers/advanced-api-usage/
    regions).
    """
    match provider_id:
        case "anthropic":
            return not ANTHROPIC_WITHOUT_REGIONS.match(model.replace(".", "-"))
        case "openai":
            return not OPENAI_WITHOUT_REGIONS.match(model)
        case "x-ai":
            return True
        case _:
            return False


def with_surcharge(tier_rates: TierRates) -> TierRates:
    """Return the rates of a tier with the surcharge for one region."""
    return TierRates(
        surcharged_rates(tier_rates.base),
        tuple((start, surcharged_rates(rates)) for start, rates in tier_rates.tiers),
    )


def at_regional_endpoint(price: Price) -> Price:
    """Return the price of a model at an endpoint for one region. Fees of tools do not change."""
    standard = with_surcharge(price)
    return replace(
        price,
        base=standard.base,
        tiers=standard.tiers,
        service_tiers=tuple((name, with_surcharge(rates)) for name, rates in price.service_tiers),
        extra_fees=tuple(map(surcharged_fee, price.extra_fees)),
        source=f"{price.source}, regional endpoint",
    )


def surcharged_rates(rates: Rates) -> Rates:
    rates_by_name = {name: rate for name, rate in asdict(rates).items() if rate is not None}
    return replace(rates, **{name: surcharged(rate) for name, rate in rates_by_name.items()})


def surcharged_fee(fee: Fee) -> Fee:
    return replace(fee, amount_nano=surcharged(fee.amount_nano)) if fee.per == PER_MILLION else fee


def surcharged(nano: int) -> int:
    return -(-nano * SURCHARGE_TENTHS // 10)

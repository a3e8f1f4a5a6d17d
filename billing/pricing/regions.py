"""Prices of inference in one region, which cost a tenth more at some vendors."""

import re

from msgspec.structs import asdict, replace

from billing.pricing.price import PER_MILLION, Fee, Price, Rates, TierRates

SURCHARGE_TENTHS = 11
"""Price of inference in one region, in tenths of the global price. It applies to the tokens of all tiers."""
ANTHROPIC_WITHOUT_REGIONS = re.compile(
    r"claude-(?:v1|2|3|instant|4-|opus-4-(?:0|1|5|2025)|(?:sonnet|haiku)-4-(?:0|5|2025))"
)
"""The models before 4.6, whose price does not depend on the region.

Source: platform.claude.com/docs/en/about-claude/pricing, "Data residency pricing".
"""
OPENAI_WITHOUT_REGIONS = re.compile(
    r"(?:ft:)?(?:gpt-(?:3|4|oss|image-1|audio(?:$|-mini|-2025))|gpt-5(?:$|-(?!\d)|-2025|[.-][0-3](?!\d))"
    r"|o[134](?!\d)|chatgpt-|codex-mini|computer-use|text-|babbage|davinci)"
)
"""The models released before March 5, 2026, which cost the same at endpoints of one region.

Source: developers.openai.com/api/docs/guides/data-residency. A model that is not known to be older has the
surcharge.
"""


def depends_on_region(provider_id: str, model: str) -> bool:
    """Return whether inference in one region costs more than elsewhere.

    xAI charges it for every model that its regional endpoint has (docs.x.ai/developers/advanced-api-usage/
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
    """Return the rates of a tier with the surcharge of a region."""
    return TierRates(
        surcharged_rates(tier_rates.base),
        tuple((start, surcharged_rates(rates)) for start, rates in tier_rates.tiers),
    )


def at_regional_endpoint(price: Price) -> Price:
    """Return the price of a model at an endpoint for one region; fees of tools stay as they are."""
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

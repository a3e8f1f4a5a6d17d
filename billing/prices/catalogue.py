"""The prices that come bundled with genai-prices, and the few that it lacks. Nothing is fetched."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices

from billing.money import NANO
from billing.prices.price import PER_MILLION, Fee, Price, Rates, Schedule, Steps, nano_per_million
from billing.prices.tool_fees import BILLED_BY_PROMPT, fee_per_request, listed_fees

SOURCE = f"genai-prices {version('genai-prices')}"
QUARTER = 15
"""Minutes. Prices change at midnight or, where they follow the time of day, at a half hour."""
SERVICE_KEYS = ("service_tier", "speed", "processing")
"""By which genai-prices tells tiers apart: OpenAI's and Google's tiers, Anthropic's fast mode, batches."""
STANDARD = ("default", "standard")
MODALITIES = ("input_audio", "input_image", "input_video", "output_audio", "output_image", "output_video")
TOOLS = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}
Prices = dict[str, Decimal | TieredPrices | None]


def bundled(provider_id: str, model: str, moment: datetime | None = None) -> Price | None:
    """The price that a model of one of genai-prices' providers has at a moment (default: now); None where it has none or zero."""
    moment = moment or datetime.now(UTC)
    return _bundled(provider_id, model, moment.replace(minute=moment.minute // QUARTER * QUARTER, second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _bundled(provider_id: str, model: str, quarter: datetime) -> Price | None:
    info = find(provider_id, model)
    if info is None:
        return None
    moment = quarter + timedelta(seconds=1)
    prices: Prices = vars(info.get_prices(moment))
    standard = schedule_of(prices)
    if not (standard.base.input or standard.base.output):
        return None
    per_request = nano_per_thousand(prices.get("requests_kcount")) or (fee_per_request(model) if provider_id == "openai" else 0)
    services = tuple((name, schedule) for name, schedule in services_of(info, moment) if schedule != standard)
    return Price(
        base=standard.base,
        tiers=standard.tiers,
        source=SOURCE,
        per_request=per_request,
        extras=(*tools_of(provider_id, model, prices), *modalities_of(prices, standard.base)),
        services=services,
    )


def find(provider_id: str, model: str) -> ModelInfo | None:
    """What genai-prices knows of a model at one of its providers."""
    try:
        _, info = get_snapshot().find_provider_model(model, None, provider_id, None)
    except LookupError:
        return None
    return info


def services_of(info: ModelInfo, moment: datetime) -> Iterator[tuple[str, Schedule]]:
    """The service tiers that a model is sold in beside the standard one."""
    for variant in info.price_variants or ():
        for key, name in variant.when.items():
            if len(variant.when) == 1 and key in SERVICE_KEYS and name not in STANDARD:
                yield name, schedule_of(vars(info.get_prices(moment, variant.when)))


def schedule_of(prices: Prices) -> Schedule:
    starts = sorted({tier.start for price in prices.values() if isinstance(price, TieredPrices) for tier in price.tiers})
    steps: Steps = tuple((start, rates_at(prices, start)) for start in starts)
    return Schedule(rates_at(prices, 0), steps)


def rates_at(prices: Prices, tier: int) -> Rates:
    def rate(name: str) -> int | None:
        value = prices.get(name)
        if isinstance(value, TieredPrices):
            held = [step.price for step in value.tiers if step.start <= tier]
            value = held[-1] if held else value.base
        return None if value is None else nano_per_million(value)

    paid = rate("input_mtok") or 0
    write = given(rate("cache_write_mtok"), paid)
    return Rates(
        paid,
        given(rate("cache_read_mtok"), paid),
        given(rate("cache_write_5m_mtok"), write),
        given(rate("cache_write_1h_mtok"), write),
        rate("output_mtok") or 0,
        rate("output_reasoning_mtok"),
    )


def given(rate: int | None, default: int) -> int:
    return default if rate is None else rate


def tools_of(provider_id: str, model: str, prices: Prices) -> tuple[Fee, ...]:
    fees = listed_fees(provider_id, model)
    for kind, name in TOOLS.items():
        if nano := nano_per_thousand(prices.get(name)):
            fees[kind] = Fee(kind, nano, once=model.startswith(BILLED_BY_PROMPT))
    return tuple(fees.values())


def modalities_of(prices: Prices, text: Rates) -> list[Fee]:
    """What a million tokens of sound, pictures or films cost more than of text. Vendors count them inside the input and the output."""
    fees = []
    for kind in MODALITIES:
        price = prices.get(f"{kind}_mtok")
        more = nano_per_million(price) - (text.input if kind.startswith("input_") else text.output) if isinstance(price, Decimal) else 0
        if more > 0:
            fees.append(Fee(kind, more, per=PER_MILLION))
    return fees


def nano_per_thousand(usd: Decimal | TieredPrices | None) -> int:
    """Nano-USD each, from USD for a thousand."""
    return int(usd * NANO / 1000) if isinstance(usd, Decimal) else 0

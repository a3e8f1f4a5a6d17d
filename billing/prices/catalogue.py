"""The prices that come bundled with genai-prices, and the few that it lacks. Nothing is fetched."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from importlib.metadata import version

from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo, TieredPrices
from msgspec.structs import asdict, replace

from billing.money import NANO
from billing.prices.price import IN_THE_US, PER_MILLION, Fee, PictureRates, Price, Rates, Schedule, Steps, nano_per_million
from billing.prices.tool_fees import BILLED_BY_PROMPT, PICTURE_MODELS, SOUND, fee_per_request, listed_fees

SOURCE = f"genai-prices {version('genai-prices')}"
QUARTER = 15
"""Minutes. Prices change at midnight or, where they follow the time of day, at a half hour."""
SERVICE_KEYS = ("service_tier", "speed", "processing")
"""By which genai-prices tells tiers apart: OpenAI's and Google's tiers, Anthropic's fast mode, batches."""
STANDARD = ("default", "standard")
MODALITIES = ("audio", "image", "video")
US_TENTHS = 11
"""What inference in the US alone costs, in tenths: all categories of tokens, in fast mode too
(platform.claude.com/docs/en/about-claude/pricing, "Data residency pricing")."""
ALWAYS_GLOBAL = (
    *("claude-v1", "claude-2", "claude-3", "claude-instant", "claude-4-", "claude-opus-4-0", "claude-opus-4-1", "claude-opus-4-2025"),
    *("claude-opus-4-5", "claude-sonnet-4-0", "claude-sonnet-4-2025", "claude-sonnet-4-5", "claude-haiku-4-5"),
)
"""Models before 4.6 have one price wherever they run (same place)."""
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
    if provider_id == "anthropic" and not model.replace(".", "-").startswith(ALWAYS_GLOBAL):
        services = (*services, *in_the_us(standard, services))
    return Price(
        base=standard.base,
        tiers=standard.tiers,
        source=SOURCE,
        per_request=per_request,
        extras=(*tools_of(provider_id, model, prices), *modalities_of({**prices, **sound_of(provider_id, model)}, standard.base)),
        services=services,
        pictures=pictures_at(moment) if provider_id == "openai" else (),
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


def in_the_us(standard: Schedule, services: Iterable[tuple[str, Schedule]]) -> Iterator[tuple[str, Schedule]]:
    yield IN_THE_US, dearer(standard)
    for name, schedule in services:
        yield f"{name}_{IN_THE_US}", dearer(schedule)


def dearer(schedule: Schedule) -> Schedule:
    return Schedule(rates_in_the_us(schedule.base), tuple((start, rates_in_the_us(rates)) for start, rates in schedule.tiers))


def rates_in_the_us(rates: Rates) -> Rates:
    dearer = {name: -(-rate * US_TENTHS // 10) for name, rate in asdict(rates).items() if rate is not None}
    return replace(rates, **dearer)


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
    """What a million tokens of sound, pictures or films cost more than of text. Vendors count them inside the input and the output.
    Without a rate of their own, those read from a cache cost what others do."""
    found: dict[str, tuple[Decimal | TieredPrices | None, int]] = {}
    for name in MODALITIES:
        heard, read, said = prices.get(f"input_{name}_mtok"), prices.get(f"cache_{name}_read_mtok"), prices.get(f"output_{name}_mtok")
        found |= {f"input_{name}": (heard, text.input), f"cached_{name}": (read or heard, text.cache_read)}
        found[f"output_{name}"] = (said, text.output)
    more = {kind: nano_per_million(price) - rate for kind, (price, rate) in found.items() if isinstance(price, Decimal)}
    return [Fee(kind, nano, per=PER_MILLION) for kind, nano in more.items() if nano > 0]


def sound_of(provider_id: str, model: str) -> Prices:
    names = [name for name in SOUND if provider_id == "openai" and model.startswith(name)]
    return {f"{side}_audio_mtok": Decimal(usd) for name in names for side, usd in zip(("input", "output"), SOUND[name], strict=True)}


def pictures_at(moment: datetime) -> tuple[PictureRates, ...]:
    """What the models cost with which OpenAI's tool makes pictures."""
    return tuple(picture_rates(name, vars(info.get_prices(moment))) for name in PICTURE_MODELS if (info := find("openai", name)))


def picture_rates(name: str, prices: Prices) -> PictureRates:
    text = rates_at(prices, 0)

    def rate(key: str, default: int) -> int:
        price = prices.get(key)
        return nano_per_million(price) if isinstance(price, Decimal) else default

    drawn = rate("input_image_mtok", text.input)
    cached, made = rate("cache_image_read_mtok", drawn), rate("output_image_mtok", text.output)
    return PictureRates(name, text.input, text.cache_read, drawn, cached, text.output, made)


def nano_per_thousand(usd: Decimal | TieredPrices | None) -> int:
    """Nano-USD each, from USD for a thousand."""
    return int(usd * NANO / 1000) if isinstance(usd, Decimal) else 0

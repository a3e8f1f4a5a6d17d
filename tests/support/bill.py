"""Bill of a provider: tokens as genai-prices calculates them, fees and tiers from vendors' pages.

It shares no code with `billing/pricing/`, so that a mistake there is not repeated here. Read on 2026-11-30.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_UP, Decimal

from genai_prices import Usage, calc_price

from tests.support.billing_job import CACHED, IMAGE_INPUT, IMAGE_OUTPUT, INPUT, WRITTEN, Job

NANO = 10**9
UNLISTED_MULTIPLE = 6
"""The factor on the standard price for tiers without a price in the list: no vendor's tier costs more."""

STANDARD_NAMES = ("", "auto", "default", "standard", "unspecified")
CHEAP_TIERS: dict[str, tuple[str, ...]] = {
    # Cheaper, or paid in advance: developers.openai.com/api/docs/guides/flex-processing,
    # openai.com/api-scale-tier, platform.claude.com/docs/en/api/service-tiers,
    # ai.google.dev/gemini-api/docs/flex-inference.
    "openai": ("flex", "scale"),
    "anthropic": ("standard_only", "priority"),
    "google": ("flex",),
}
"""Tiers that cost at most the standard price."""
PREMIUM_TIERS: dict[str, dict[str, str]] = {
    # developers.openai.com/api/docs/guides/priority-processing
    "openai": {"priority": "service_tier", "fast": "service_tier"},
    # platform.claude.com/docs/en/build-with-claude/fast-mode
    "anthropic": {"fast": "speed"},
    "google": {},
}
"""Tiers that cost more, each with its key in genai-prices."""
US_MULTIPLE = Decimal("1.1")
WITHOUT_REGIONS = ("claude-3", "claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-1", "claude-opus-4-5")
"""Models whose price does not depend on the region (platform.claude.com/docs/en/about-claude/pricing)."""

FEES_USD: dict[str, dict[str, str]] = {
    # developers.openai.com/api/docs/pricing, "Tools". A container of 20 minutes costs 0.03 USD per GB.
    "openai": {
        "web_search": "0.01",
        "web_search_preview": "0.01",
        "file_search": "0.0025",
        "code_interpreter 1g": "0.03",
        "code_interpreter 4g": "0.12",
        "code_interpreter 16g": "0.48",
        "code_interpreter 64g": "1.92",
        "shell 1g": "0.03",
        "shell 4g": "0.12",
        "shell 16g": "0.48",
        "shell 64g": "1.92",
    },
    # platform.claude.com/docs/en/about-claude/pricing, "Specific tool pricing"
    "anthropic": {"web_search": "0.01"},
    # ai.google.dev/gemini-api/docs/pricing: Gemini 2.5 is billed for each prompt with a search.
    "google": {"web_search": "0.035"},
}
"""The fee of each call, or of each container. Other tools cost only their tokens."""
BILLED_ONCE = ("gemini-2.",)
"""Models whose searches are billed once for each request."""


def bill_nano(provider: str, job: Job) -> int:
    """Return the cost of a request in nano-USD. `provider` is its name in genai-prices."""
    usd = token_usd(provider, job) * region_multiple(provider, job) + fees_usd(provider, job)
    return int((usd * NANO).to_integral_value(ROUND_HALF_UP))


def token_usd(provider: str, job: Job) -> Decimal:
    """Return the cost of the tokens in the tier of the request."""
    standard, names = priced(provider, job, {}), PREMIUM_TIERS[provider]
    if job.tier in STANDARD_NAMES or job.tier in CHEAP_TIERS[provider]:
        cheap = {"service_tier": job.tier} if job.tier == "flex" else {}
        return min(standard, priced(provider, job, cheap))
    premium = priced(provider, job, {names[job.tier]: job.tier}) if job.tier in names else standard
    return premium if premium > standard else standard * UNLISTED_MULTIPLE


def priced(provider: str, job: Job, context: Mapping[str, str]) -> Decimal:
    lifetime = {"cache_write_1h_tokens": WRITTEN} if job.cache_lifetime == "1h" else {}
    usage = Usage(
        input_tokens=INPUT,
        cache_read_tokens=CACHED,
        cache_write_tokens=WRITTEN,
        output_tokens=job.output,
        **lifetime,
    )
    total = calc_price(usage, job.model, provider_id=provider, price_context=context).total_price
    if job.cache_lifetime != "12h":
        return total
    # A write for 12 hours costs twice as much as one for 30 minutes
    # (developers.openai.com/api/docs/guides/prompt-caching).
    writes = Usage(input_tokens=WRITTEN, cache_write_tokens=WRITTEN, output_tokens=0)
    return total + calc_price(writes, job.model, provider_id=provider, price_context=context).total_price


def region_multiple(provider: str, job: Job) -> Decimal:
    has_regions = provider == "anthropic" and not job.model.startswith(WITHOUT_REGIONS)
    return US_MULTIPLE if has_regions and job.region == "us" else Decimal(1)


def fees_usd(provider: str, job: Job) -> Decimal:
    fees = {name: Decimal(usd) for name, usd in FEES_USD[provider].items()}
    is_billed_once = job.model.startswith(BILLED_ONCE)
    calls = {name: min(count, 1) if is_billed_once else count for name, count in job.tools.items()}
    images = job.tools["image_generation"] * image_usd(job.image_model)
    return sum((fees[name] * count for name, count in calls.items() if name in fees), images)


def image_usd(model: str) -> Decimal:
    """Return the cost of one image, which has its own model."""
    if not model:
        return Decimal(0)
    usage = Usage(input_tokens=IMAGE_INPUT, output_tokens=IMAGE_OUTPUT, output_image_tokens=IMAGE_OUTPUT)
    return calc_price(usage, model, provider_id="openai").total_price

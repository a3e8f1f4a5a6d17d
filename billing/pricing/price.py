"""Prices, and the cost of a request, computed with integers only.

Rates are nano-USD per million tokens: 0.15 USD per million tokens is 150,000,000. Fees are in nano-USD. The
cost is the exact sum over all token buckets and fees, rounded once (half up) to whole nano-USD.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

import msgspec
from msgspec.structs import astuple, replace

from billing.money import NANO

PER_MILLION = 10**6
TOKENS_PER_TOOL_CALL = 25_000
"""Input tokens that are reserved for one call of a server tool.

This is the size of a long page, as Anthropic estimates it ("Web fetch tool", "Usage and pricing"). Because no
vendor limits these tokens, a call can use more. The gateway aborts a stream when its cost reaches the
reserved amount.
"""
MODALITY_PREFIXES = ("input_", "cached_", "output_")
"""Prefixes of the kinds of non-text tokens. The names of tools do not begin with them."""
MODEL_SEPARATOR = ": "
"""Separates a model's name from a kind of tokens: `gpt-image-2: image_output`.

Such kinds are used for tokens of a model other than the requested one.
"""
ESTIMATED_PREFIX = "estimated_"
"""Prefix of kinds of tokens that the gateway estimated because the provider did not report them."""
BILLED_AS = {"auto": ("priority",), "fast": ("fast", "priority"), "priority": ("priority", "fast")}
"""Maps a requested service tier to the tiers that the provider may bill.

`auto` means the tier that is set in the project at the provider. `fast` is another name of `priority`
(platform.openai.com/docs/api-reference/chat/create, `service_tier`).
"""
GLOBAL_SUFFIX, US_REGION = "_global", "us"
"""Suffixes for the region of inference, on which Anthropic's prices also depend.

Unless a request asks for `global`, it runs in the region that is set for its workspace
(platform.claude.com/docs/en/manage-claude/data-residency).
"""


class Tokens(msgspec.Struct, frozen=True):
    """Token counts in disjoint buckets. Only `reasoning` is not a bucket: it is a part of `output`.

    `cache_write_5m` counts writes to the shortest cache of a vendor: 5 minutes at Anthropic, 30 at OpenAI.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_12h: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def prompt(self) -> int:
        written = self.cache_write_5m + self.cache_write_1h + self.cache_write_12h
        return self.input + self.cache_read + written


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nano-USD per million tokens of each bucket.

    If `reasoning` is None, reasoning is billed as output. If `cache_write_12h` is None, a write to a 12-hour
    cache costs twice as much as a write to the shortest cache, as at OpenAI.
    """

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int | None = None
    cache_write_12h: int | None = None

    def buckets(self, tokens: Tokens) -> tuple[tuple[str, int, int], ...]:
        """Return the name, tokens and rate of each bucket. Each token counts in exactly one bucket."""
        reasoning = 0 if self.reasoning is None else min(tokens.reasoning, tokens.output)
        return (
            ("input", tokens.input, self.input),
            ("cache_read", tokens.cache_read, self.cache_read),
            ("cache_write_5m", tokens.cache_write_5m, self.cache_write_5m),
            ("cache_write_1h", tokens.cache_write_1h, self.cache_write_1h),
            ("cache_write_12h", tokens.cache_write_12h, self.cache_write_12h_rate),
            ("output", tokens.output - reasoning, self.output),
            ("reasoning", reasoning, self.reasoning or 0),
        )

    def femto(self, tokens: Tokens) -> int:
        """Return the cost of tokens in femto-USD (10^-15 USD)."""
        return sum(count * rate for _, count, rate in self.buckets(tokens))

    @property
    def cache_write_12h_rate(self) -> int:
        return 2 * self.cache_write_5m if self.cache_write_12h is None else self.cache_write_12h

    def max_input_rate(self, *, writes_12h_cache: bool) -> int:
        """Return the highest rate at which input can be billed, cached or not."""
        most = max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)
        return max(most, self.cache_write_12h_rate) if writes_12h_cache else most

    @property
    def max_output_rate(self) -> int:
        return max(self.output, self.reasoning or 0)


PricingTiers = tuple[tuple[int, Rates], ...]
"""Pairs of a prompt length in tokens and the rates of prompts that are longer, in ascending order."""


class Fee(msgspec.Struct, frozen=True, omit_defaults=True):
    """A fee in addition to the token rates: `amount_nano` for every `per` units of a kind.

    If `per_request` is true, the fee is charged once for each request that has used at least one unit. A kind
    is either a server tool, whose units are calls, or tokens of audio, images or video, such as
    `input_audio`. These tokens also count in the buckets, so their fee is only the surcharge over text
    tokens.
    """

    kind: str
    amount_nano: int
    per_request: bool = False
    per: int = 1

    def femto(self, count: int) -> int:
        """Return the fee for `count` units in femto-USD."""
        return self.amount_nano * (min(count, 1) if self.per_request else count) * (PER_MILLION // self.per)

    @property
    def is_output(self) -> bool:
        return self.kind.startswith("output_")


class ImageModelRates(msgspec.Struct, frozen=True, array_like=True):
    """Rates of image models whose names start with `model_prefix`, which image generation tools use.

    Rates are nano-USD per million tokens of each kind.
    """

    model_prefix: str
    text_input: int
    cached_text_input: int
    image_input: int
    cached_image_input: int
    text_output: int
    image_output: int

    def rate_for(self, kind: str) -> int:
        """Return the rate of a kind, for example `gpt-image-2: image_output`; 0 if it is not billed."""
        rates: dict[str, int] = dict(zip(self.__struct_fields__[1:], astuple(self)[1:], strict=True))
        return rates.get(kind.partition(MODEL_SEPARATOR)[2].removeprefix(ESTIMATED_PREFIX), 0)


class TierRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rates of one service tier.

    If a prompt is longer than the start of a pricing tier, the rates of that tier apply to all tokens of the
    request.
    """

    base: Rates
    tiers: PricingTiers = ()

    @property
    def all_tiers(self) -> PricingTiers:
        return ((-1, self.base), *self.tiers)

    @property
    def level(self) -> tuple[int, int]:
        """Return a value by which the tiers of one model can be ordered. A tier scales all rates alike."""
        return self.base.max_output_rate, self.base.max_input_rate(writes_12h_cache=False)

    def rates(self, prompt_tokens: int) -> Rates:
        applicable = self.base
        for start, rates in self.tiers:
            if prompt_tokens > start:
                applicable = rates
        return applicable


class Price(TierRates, frozen=True, omit_defaults=True, kw_only=True):
    """The price of a model: standard rates, rates of other service tiers, and fees.

    `source` says where the price comes from. `request_fee_nano` is charged once per request.
    `image_models` are the rates of the models that the image generation tool may use.
    `standard_tiers` are the names of service tiers with the standard rates, and `free_tools` the tools whose
    calls cost only their tokens. If `standard_tiers` is empty, the standard rates also apply in tiers that
    the price does not know, and tools without a fee are free.
    `unknown_tier` is set if the price has no rates for the tier of a request, so that the highest known rates
    were charged.
    """

    source: str
    request_fee_nano: int = 0
    extra_fees: tuple[Fee, ...] = ()
    service_tiers: tuple[tuple[str, TierRates], ...] = ()
    image_models: tuple[ImageModelRates, ...] = ()
    standard_tiers: tuple[str, ...] = ()
    free_tools: tuple[str, ...] = ()
    unknown_tier: str = ""

    def for_tier(self, service_tier: str = "") -> "Price":
        """Return the price in a service tier. If the tier is not known, use the highest known rates."""
        if not (self.standard_tiers or self.service_tiers):
            return self
        known = self.tier_rates(service_tier)
        rates = known or max((self, *dict(self.service_tiers).values()), key=lambda tier: tier.level)
        return replace(
            self,
            base=rates.base,
            tiers=rates.tiers,
            service_tiers=(),
            standard_tiers=(),
            free_tools=(),
            unknown_tier="" if known else service_tier,
        )

    def tier_rates(self, service_tier: str) -> TierRates | None:
        """Return the rates of a service tier, for example `priority` or `fast_us`; None if not known.

        If `us` is one of the standard tiers, the price does not depend on the region.
        """
        name, region = split_region(service_tier)
        name = "" if name in self.standard_tiers else name
        region = "" if region in self.standard_tiers else region
        by_tier: dict[str, TierRates] = {"": self, **dict(self.service_tiers)}
        known = by_tier.get("_".join(filter(None, (name, region))))
        return known if known or self.standard_tiers else by_tier.get(region, self)

    def unpriced_tools(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """Return the tools among these kinds of billed items whose calls have no known price."""
        if not self.standard_tiers:
            return ()
        priced = {*self.free_tools, *(fee.kind for fee in self.extra_fees)}
        return tuple(kind for kind in kinds if is_tool(kind) and kind not in priced)

    def only_used_fees(self, extras: Mapping[str, int]) -> "Price":
        """Return the price with only those fees that apply to the given extras, as a record stores it."""
        if not (self.extra_fees or self.image_models):
            return self
        used = {
            self.image_rates_for(kind) for kind in extras if MODEL_SEPARATOR in kind and self.image_models
        }
        return replace(
            self,
            extra_fees=tuple(fee for fee in self.extra_fees if extras.get(fee.kind)),
            image_models=tuple(rates for rates in self.image_models if rates in used),
        )

    def cost(self, tokens: Tokens, extras: Mapping[str, int] | None = None) -> int:
        """Return the cost in nano-USD in the standard tier. For another tier, call `for_tier` first."""
        femto = self.rates(tokens.prompt).femto(tokens) + sum(
            fee.femto(count) for fee, count in self.applicable_fees(extras)
        )
        return self.request_fee_nano + (femto + PER_MILLION // 2) // PER_MILLION

    def applicable_fees(self, extras: Mapping[str, int] | None) -> list[tuple[Fee, int]]:
        """Return the fees that apply to the given extras, each with its count. Other kinds are free."""
        counts = extras or {}
        fees = [(fee, counts[fee.kind]) for fee in self.extra_fees if counts.get(fee.kind)]
        if not self.image_models:
            return fees
        image_fees = [
            (Fee(kind, self.image_rates_for(kind).rate_for(kind), per=PER_MILLION), count)
            for kind, count in counts.items()
            if MODEL_SEPARATOR in kind
        ]
        return fees + [(fee, count) for fee, count in image_fees if count and fee.amount_nano]

    def image_rates_for(self, kind: str) -> ImageModelRates:
        """Return the rates of the model in a kind of tokens. If it is not known, return the highest ones."""
        matching = [rates for rates in self.image_models if kind.startswith(rates.model_prefix)]
        if matching:
            return max(matching, key=lambda rates: len(rates.model_prefix))
        return max(self.image_models, key=lambda rates: rates.image_output)

    def max_cost(
        self,
        service_tier: str = "",
        limits: Mapping[str, int] | None = None,
        *,
        writes_12h_cache: bool = False,
    ) -> "MaxCost":
        """Return the maximum cost of a request in a service tier, with at most `limits` extras per kind.

        `writes_12h_cache`: the request may write its prompt to a 12-hour cache.
        """
        tiers = possible_tiers(service_tier)
        possible: Iterable[TierRates] = (
            self,
            *(tier_rates for name, tier_rates in self.service_tiers if name in tiers),
        )
        femto = sum(fee.femto(count) for fee, count in self.applicable_fees(limits) if not fee.is_output)
        calls = sum(count for kind, count in (limits or {}).items() if is_tool(kind))
        return MaxCost(
            tiers=tuple(tier for tier_rates in possible for tier in tier_rates.all_tiers),
            fees_nano=self.request_fee_nano + (femto + PER_MILLION - 1) // PER_MILLION,
            tool_input_tokens=TOKENS_PER_TOOL_CALL * calls,
            output_surcharge=max((fee.amount_nano for fee in self.extra_fees if fee.is_output), default=0),
            writes_12h_cache=writes_12h_cache,
        )


class MaxCost(msgspec.Struct, frozen=True):
    """The maximum cost of a request.

    The provider may bill the request at any of `tiers`. In addition to the tokens of the request, it may bill
    `fees_nano` (nano-USD) and `tool_input_tokens`. The output may cost `output_surcharge` more than text
    (nano-USD per million tokens).
    """

    tiers: PricingTiers
    fees_nano: int = 0
    tool_input_tokens: int = 0
    output_surcharge: int = 0
    writes_12h_cache: bool = False

    def upper_bound(self, input_tokens: int, output_tokens: int) -> int:
        """Return the maximum cost in nano-USD, for all possible tiers and uses of the cache."""
        total = input_tokens + self.tool_input_tokens
        femto = max(
            total * self._input_rate(rates) + output_tokens * self._output_rate(rates)
            for rates in self._applicable_rates(total)
        )
        return self.fees_nano + (femto + PER_MILLION - 1) // PER_MILLION

    def max_output_for(self, amount_nano: int, input_tokens: int) -> int | None:
        """Return how many output tokens `amount_nano` nano-USD can pay for; None if output is free.

        Fees and input are paid first. If `amount_nano` does not cover them, the result is 0, unless output is
        free.
        """
        total = input_tokens + self.tool_input_tokens
        amount_femto = (amount_nano - self.fees_nano) * PER_MILLION
        remaining = [
            (amount_femto - total * self._input_rate(rates), self._output_rate(rates))
            for rates in self._applicable_rates(total)
        ]
        affordable = [femto // rate for femto, rate in remaining if rate]
        if not affordable:
            return None
        is_input_covered = all(femto >= 0 for femto, _ in remaining)
        return max(min(affordable), 0) if is_input_covered else 0

    def _input_rate(self, rates: Rates) -> int:
        return rates.max_input_rate(writes_12h_cache=self.writes_12h_cache)

    def _output_rate(self, rates: Rates) -> int:
        return rates.max_output_rate + self.output_surcharge

    def _applicable_rates(self, input_tokens: int) -> list[Rates]:
        return [rates for start, rates in self.tiers if input_tokens > start]


def split_region(service_tier: str) -> tuple[str, str]:
    """Split `fast_us` into tier and region of inference. Empty means the standard tier or region."""
    if service_tier == US_REGION:
        return "", US_REGION
    name = service_tier.removesuffix(f"_{US_REGION}")
    return name, "" if name == service_tier else US_REGION


def is_tool(kind: str) -> bool:
    """Return whether a kind of billed items is a tool, and not tokens of audio, images or another model."""
    return not kind.startswith(MODALITY_PREFIXES) and MODEL_SEPARATOR not in kind


@lru_cache(maxsize=64)
def possible_tiers(requested_tier: str) -> frozenset[str]:
    """Return the service tiers that the provider may bill for a request that asks for a tier."""
    tier = requested_tier.removesuffix(GLOBAL_SUFFIX)
    names = frozenset(BILLED_AS.get(tier, (tier,)))
    if requested_tier.endswith(GLOBAL_SUFFIX):
        return names
    return names | {US_REGION, *(f"{name}_{US_REGION}" for name in names)}


def simple_price(input_usd: str, output_usd: str, source: str) -> Price:
    """Return a price without tiers, from USD per million tokens. Input has one rate, cached or not."""
    input_rate, output_rate = nano_per_million(Decimal(input_usd)), nano_per_million(Decimal(output_usd))
    return Price(base=Rates(input_rate, input_rate, input_rate, input_rate, output_rate), source=source)


def nano_per_million(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value())

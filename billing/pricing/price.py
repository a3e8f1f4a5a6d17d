"""A price and what it makes of a request: pure arithmetic in whole numbers.

Rates are integers: nano-USD per million tokens, so that 0.15 USD per million is 150,000,000. Fees are nano-USD each. A cost is
summed exactly over the buckets and rounded once, half up, to whole nano-USD.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

import msgspec
from msgspec.structs import astuple, replace

from billing.money import NANO

PER_MILLION = 10**6
TOKENS_PER_TOOL_CALL = 25_000
"""What one call of a provider's own tool is taken to add to the input: a long page, as Anthropic counts it ("Web fetch tool",
"Usage and pricing"). No vendor sets a limit, so this is no bound; a stream is cut at what is held for it all the same."""
MODALITY_PREFIXES = ("input_", "cached_", "output_")
"""How kinds of tokens begin, as opposed to kinds of tools."""
MODEL_SEPARATOR = ": "
"""Stands in kinds of tokens that another model than the one asked has used: `gpt-image-2: image_output`."""
ESTIMATED_PREFIX = "estimated_"
"""Before kinds of tokens that no provider has stated."""
BILLED_AS = {"auto": ("priority",), "fast": ("fast", "priority"), "priority": ("priority", "fast")}
"""Service tiers that a request may turn out to be billed as. `auto` is what the provider's project is set to, `fast` another word for
`priority` (platform.openai.com/docs/api-reference/chat/create, `service_tier`)."""
GLOBAL_SUFFIX, US_REGION = "_global", "us"
"""Anthropic bills a tier by the place as well. A request that does not say `global` runs where its workspace is set to
(platform.claude.com/docs/en/manage-claude/data-residency)."""


class Tokens(msgspec.Struct, frozen=True):
    """Disjoint buckets: no token is in two of them. `reasoning` is that part of `output` that the client never saw."""

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: "Tokens") -> "Tokens":
        return Tokens(*(mine - its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nano-USD per million tokens of each bucket. Reasoning costs what other output costs, unless it has a rate of its own."""

    input: int
    cache_read: int
    cache_write_5m: int
    cache_write_1h: int
    output: int
    reasoning: int | None = None

    def buckets(self, tokens: Tokens) -> tuple[tuple[str, int, int], ...]:
        """Name, tokens and rate of everything that is billed; each token is in one of them."""
        reasoning = 0 if self.reasoning is None else min(tokens.reasoning, tokens.output)
        return (
            ("input", tokens.input, self.input),
            ("cache_read", tokens.cache_read, self.cache_read),
            ("cache_write_5m", tokens.cache_write_5m, self.cache_write_5m),
            ("cache_write_1h", tokens.cache_write_1h, self.cache_write_1h),
            ("output", tokens.output - reasoning, self.output),
            ("reasoning", reasoning, self.reasoning or 0),
        )

    def femto(self, tokens: Tokens) -> int:
        """Millionths of a nano-USD."""
        return sum(count * rate for _, count, rate in self.buckets(tokens))

    @property
    def max_input_rate(self) -> int:
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)

    @property
    def max_output_rate(self) -> int:
        return max(self.output, self.reasoning or 0)


PricingTiers = tuple[tuple[int, Rates], ...]
"""Rates by the prompt tokens beyond which they hold, ascending."""


class Fee(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is paid beside the rates: `amount_nano` for `per` of a kind; with `per_request`, for all of it in one request together.

    A kind is a tool that the provider runs, counted by calls; or tokens of sound or pictures (`input_audio`, `output_image`), which are
    in the buckets as well: for those it is what they cost more than text.
    """

    kind: str
    amount_nano: int
    per_request: bool = False
    per: int = 1

    def femto(self, count: int) -> int:
        """Millionths of a nano-USD."""
        return self.amount_nano * (min(count, 1) if self.per_request else count) * (PER_MILLION // self.per)

    @property
    def is_output(self) -> bool:
        return self.kind.startswith("output_")


class ImageModelRates(msgspec.Struct, frozen=True, array_like=True):
    """What a model costs that a tool makes pictures with: nano-USD per million tokens of each kind. `model_prefix` is how its name begins."""

    model_prefix: str
    text_input: int
    cached_text_input: int
    image_input: int
    cached_image_input: int
    text_output: int
    image_output: int

    def rate_for(self, kind: str) -> int:
        """For tokens of a kind such as `gpt-image-2: image_output`; 0 for what it does not bill."""
        rates: dict[str, int] = dict(zip(self.__struct_fields__[1:], astuple(self)[1:], strict=True))
        return rates.get(kind.partition(MODEL_SEPARATOR)[2].removeprefix(ESTIMATED_PREFIX), 0)


class TierRates(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rates of one service tier. A step applies to all tokens of a request with a longer prompt."""

    base: Rates
    tiers: PricingTiers = ()

    @property
    def all_tiers(self) -> PricingTiers:
        return ((-1, self.base), *self.tiers)

    def rates(self, prompt_tokens: int) -> Rates:
        applicable = self.base
        for start, rates in self.tiers:
            if prompt_tokens > start:
                applicable = rates
        return applicable


class Price(TierRates, frozen=True, omit_defaults=True, kw_only=True):
    """What a model costs: its standard rates, what other service tiers cost, and what is paid beside the tokens.

    `source` says where it comes from. `request_fee_nano` is nano-USD for each request that is answered. `extra_fees` are fees by kind.
    `image_models` are the rates of other models, which its tools may use.
    """

    source: str
    request_fee_nano: int = 0
    extra_fees: tuple[Fee, ...] = ()
    service_tiers: tuple[tuple[str, TierRates], ...] = ()
    image_models: tuple[ImageModelRates, ...] = ()

    def for_tier(self, service_tier: str = "") -> "Price":
        """The price in the tier that the provider states; one without rates of its own costs what the standard one does, in the same
        place: `priority_us` what `us` does.
        """
        if not self.service_tiers:
            return self
        by_tier = dict(self.service_tiers)
        tier_rates = by_tier.get(service_tier) or by_tier.get(service_tier.rpartition("_")[2], self)
        return replace(self, base=tier_rates.base, tiers=tier_rates.tiers, service_tiers=())

    def only_used_fees(self, extras: Mapping[str, int]) -> "Price":
        """What a record keeps: the fees that it was charged, out of all that there are."""
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
        """Nano-USD for what was used, by the rates of this very tier."""
        femto = self.rates(tokens.prompt).femto(tokens) + sum(
            fee.femto(count) for fee, count in self.applicable_fees(extras)
        )
        return self.request_fee_nano + (femto + PER_MILLION // 2) // PER_MILLION

    def applicable_fees(self, extras: Mapping[str, int] | None) -> list[tuple[Fee, int]]:
        """The fees to pay for these counts by kind, each with its count. Other kinds are free."""
        counts = extras or {}
        found = [(fee, counts[fee.kind]) for fee in self.extra_fees if counts.get(fee.kind)]
        if not self.image_models:
            return found
        image_fees = [
            (Fee(kind, self.image_rates_for(kind).rate_for(kind), per=PER_MILLION), count)
            for kind, count in counts.items()
            if MODEL_SEPARATOR in kind
        ]
        return found + [(fee, count) for fee, count in image_fees if count and fee.amount_nano]

    def image_rates_for(self, kind: str) -> ImageModelRates:
        """What the model costs that a kind of tokens begins with; one that is not known costs what the dearest does."""
        matching = [rates for rates in self.image_models if kind.startswith(rates.model_prefix)]
        if matching:
            return max(matching, key=lambda rates: len(rates.model_prefix))
        return max(self.image_models, key=lambda rates: rates.image_output)

    def max_cost(self, service_tier: str = "", limits: Mapping[str, int] | None = None) -> "MaxCost":
        """The most that a request can be charged: it asks for `service_tier`, and allows so much of each kind of extras."""
        tiers = possible_tiers(service_tier)
        possible: Iterable[TierRates] = (
            self,
            *(schedule for name, schedule in self.service_tiers if name in tiers),
        )
        femto = sum(fee.femto(count) for fee, count in self.applicable_fees(limits) if not fee.is_output)
        calls = sum(
            count
            for kind, count in (limits or {}).items()
            if not kind.startswith(MODALITY_PREFIXES) and MODEL_SEPARATOR not in kind
        )
        return MaxCost(
            tiers=tuple(step for schedule in possible for step in schedule.all_tiers),
            fees_nano=self.request_fee_nano + (femto + PER_MILLION - 1) // PER_MILLION,
            tool_input_tokens=TOKENS_PER_TOOL_CALL * calls,
            output_surcharge=max((fee.amount_nano for fee in self.extra_fees if fee.is_output), default=0),
        )


class MaxCost(msgspec.Struct, frozen=True):
    """The dearest that a request can meet: any of `tiers`, all of the `fees_nano` (nano-USD), `tool_input_tokens` tokens beside its own, and output that
    costs `output_surcharge` more than text (nano-USD per million tokens).
    """

    tiers: PricingTiers
    fees_nano: int = 0
    tool_input_tokens: int = 0
    output_surcharge: int = 0

    def upper_bound(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-USD that a request cannot pass, however its input turns out to be cached or tiered."""
        total = input_tokens + self.tool_input_tokens
        femto = max(
            total * rates.max_input_rate + output_tokens * self._output_rate(rates)
            for rates in self._applicable_rates(total)
        )
        return self.fees_nano + (femto + PER_MILLION - 1) // PER_MILLION

    def max_output_for(self, amount_nano: int, input_tokens: int) -> int | None:
        """Return the output tokens that `amount_nano` nano-USD pays for; None if output is free.

        Fees and input come first: the result is 0 if `amount_nano` does not cover them. Free output has no limit,
        however little is left.
        """
        total, remaining_femto = (
            input_tokens + self.tool_input_tokens,
            (amount_nano - self.fees_nano) * PER_MILLION,
        )
        charged = [
            (rates.max_input_rate, rate)
            for rates in self._applicable_rates(total)
            if (rate := self._output_rate(rates))
        ]
        return (
            max(min((remaining_femto - total * dearest) // rate for dearest, rate in charged), 0)
            if charged
            else None
        )

    def _output_rate(self, rates: Rates) -> int:
        return rates.max_output_rate + self.output_surcharge

    def _applicable_rates(self, input_tokens: int) -> list[Rates]:
        return [rates for start, rates in self.tiers if input_tokens > start]


@lru_cache(maxsize=64)
def possible_tiers(requested_tier: str) -> frozenset[str]:
    """The tiers that a request for one may be billed as."""
    tier = requested_tier.removesuffix(GLOBAL_SUFFIX)
    names = frozenset(BILLED_AS.get(tier, (tier,)))
    return (
        names
        if requested_tier.endswith(GLOBAL_SUFFIX)
        else names | {US_REGION, *(f"{name}_{US_REGION}" for name in names)}
    )


def simple_price(input_usd: str, output_usd: str, source: str) -> Price:
    """A price without cache rates or tiers, from USD per million tokens."""
    input_rate, output_rate = nano_per_million(Decimal(input_usd)), nano_per_million(Decimal(output_usd))
    return Price(base=Rates(input_rate, input_rate, input_rate, input_rate, output_rate), source=source)


def nano_per_million(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value())

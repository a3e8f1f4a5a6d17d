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
MODALITIES = ("input_", "cached_", "output_")
"""How kinds of tokens begin, as opposed to kinds of tools."""
OF_MODEL = ": "
"""Stands in kinds of tokens that another model than the one asked has used: `gpt-image-2: image_output`."""
ESTIMATED = "estimated_"
"""Before kinds of tokens that no provider has stated."""
ALSO_BILLED_AS = {"auto": ("priority",), "fast": ("fast", "priority"), "priority": ("priority", "fast")}
"""Service tiers that a request may turn out to be billed as. `auto` is what the provider's project is set to, `fast` another word for
`priority` (platform.openai.com/docs/api-reference/chat/create, `service_tier`)."""
ANYWHERE, IN_THE_US = "_global", "us"
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
        thought = 0 if self.reasoning is None else min(tokens.reasoning, tokens.output)
        return (
            ("input", tokens.input, self.input),
            ("cache_read", tokens.cache_read, self.cache_read),
            ("cache_write_5m", tokens.cache_write_5m, self.cache_write_5m),
            ("cache_write_1h", tokens.cache_write_1h, self.cache_write_1h),
            ("output", tokens.output - thought, self.output),
            ("reasoning", thought, self.reasoning or 0),
        )

    def exact(self, tokens: Tokens) -> int:
        """Millionths of a nano-USD."""
        return sum(count * rate for _, count, rate in self.buckets(tokens))

    @property
    def dearest_input(self) -> int:
        return max(self.input, self.cache_read, self.cache_write_5m, self.cache_write_1h)

    @property
    def dearest_output(self) -> int:
        return max(self.output, self.reasoning or 0)


Steps = tuple[tuple[int, Rates], ...]
"""Rates by the prompt tokens beyond which they hold, ascending."""


class Fee(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is paid beside the rates: `nano` for `per` of a kind; with `once`, for all of it in one request together.

    A kind is a tool that the provider runs, counted by calls; or tokens of sound or pictures (`input_audio`, `output_image`), which are
    in the buckets as well: for those it is what they cost more than text.
    """

    kind: str
    nano: int
    once: bool = False
    per: int = 1

    def exact(self, count: int) -> int:
        """Millionths of a nano-USD."""
        return self.nano * (min(count, 1) if self.once else count) * (PER_MILLION // self.per)

    @property
    def is_of_output(self) -> bool:
        return self.kind.startswith("output_")


class PictureRates(msgspec.Struct, frozen=True, array_like=True):
    """What a model costs that a tool makes pictures with: nano-USD per million tokens of each kind. `name` is how its name begins."""

    name: str
    text_input: int
    cached_text_input: int
    image_input: int
    cached_image_input: int
    text_output: int
    image_output: int

    def rate(self, kind: str) -> int:
        """For tokens of a kind such as `gpt-image-2: image_output`; 0 for what it does not bill."""
        rates: dict[str, int] = dict(zip(self.__struct_fields__[1:], astuple(self)[1:], strict=True))
        return rates.get(kind.partition(OF_MODEL)[2].removeprefix(ESTIMATED), 0)


class Schedule(msgspec.Struct, frozen=True, omit_defaults=True):
    """The rates of one service tier. A step applies to all tokens of a request with a longer prompt."""

    base: Rates
    tiers: Steps = ()

    @property
    def steps(self) -> Steps:
        return ((-1, self.base), *self.tiers)

    def rates(self, prompt_tokens: int) -> Rates:
        held = self.base
        for start, rates in self.tiers:
            if prompt_tokens > start:
                held = rates
        return held


class Price(Schedule, frozen=True, omit_defaults=True, kw_only=True):
    """What a model costs: its standard rates, what other service tiers cost, and what is paid beside the tokens.

    `source` says where it comes from. `per_request` is nano-USD for each request that is answered. `extras` are fees by kind.
    `pictures` are the rates of other models, which its tools may use.
    """

    source: str
    per_request: int = 0
    extras: tuple[Fee, ...] = ()
    services: tuple[tuple[str, Schedule], ...] = ()
    pictures: tuple[PictureRates, ...] = ()

    def served(self, service_tier: str = "") -> "Price":
        """The price in the tier that the provider states; one without rates of its own costs what the standard one does, in the same
        place: `priority_us` what `us` does."""
        if not self.services:
            return self
        named = dict(self.services)
        schedule = named.get(service_tier) or named.get(service_tier.rpartition("_")[2], self)
        return replace(self, base=schedule.base, tiers=schedule.tiers, services=())

    def without_unused(self, extras: Mapping[str, int]) -> "Price":
        """What a record keeps: the fees that it was charged, out of all that there are."""
        if not (self.extras or self.pictures):
            return self
        used = {self.rates_of(kind) for kind in extras if OF_MODEL in kind and self.pictures}
        return replace(
            self,
            extras=tuple(fee for fee in self.extras if extras.get(fee.kind)),
            pictures=tuple(rates for rates in self.pictures if rates in used),
        )

    def cost(self, tokens: Tokens, extras: Mapping[str, int] | None = None) -> int:
        """Nano-USD for what was used, by the rates of this very tier."""
        exact = self.rates(tokens.prompt).exact(tokens) + sum(fee.exact(count) for fee, count in self.fees(extras))
        return self.per_request + (exact + PER_MILLION // 2) // PER_MILLION

    def fees(self, extras: Mapping[str, int] | None) -> list[tuple[Fee, int]]:
        """The fees to pay for these counts by kind, each with its count. Other kinds are free."""
        counts = extras or {}
        found = [(fee, counts[fee.kind]) for fee in self.extras if counts.get(fee.kind)]
        if not self.pictures:
            return found
        drawn = [(Fee(kind, self.rates_of(kind).rate(kind), per=PER_MILLION), count) for kind, count in counts.items() if OF_MODEL in kind]
        return found + [(fee, count) for fee, count in drawn if count and fee.nano]

    def rates_of(self, kind: str) -> PictureRates:
        """What the model costs that a kind of tokens begins with; one that is not known costs what the dearest does."""
        known = [rates for rates in self.pictures if kind.startswith(rates.name)]
        if known:
            return max(known, key=lambda rates: len(rates.name))
        return max(self.pictures, key=lambda rates: rates.image_output)

    def ceiling(self, service_tier: str = "", limits: Mapping[str, int] | None = None) -> "Ceiling":
        """The most that a request can be charged: it asks for `service_tier`, and allows so much of each kind of extras."""
        names = tiers_met(service_tier)
        met: Iterable[Schedule] = (self, *(schedule for name, schedule in self.services if name in names))
        exact = sum(fee.exact(count) for fee, count in self.fees(limits) if not fee.is_of_output)
        calls = sum(count for kind, count in (limits or {}).items() if not kind.startswith(MODALITIES) and OF_MODEL not in kind)
        return Ceiling(
            steps=tuple(step for schedule in met for step in schedule.steps),
            fees=self.per_request + (exact + PER_MILLION - 1) // PER_MILLION,
            fetched=TOKENS_PER_TOOL_CALL * calls,
            output_extra=max((fee.nano for fee in self.extras if fee.is_of_output), default=0),
        )


class Ceiling(msgspec.Struct, frozen=True):
    """The dearest that a request can meet: any of `steps`, all of the `fees` (nano-USD), `fetched` tokens beside its own, and output that
    costs `output_extra` more than text (nano-USD per million tokens)."""

    steps: Steps
    fees: int = 0
    fetched: int = 0
    output_extra: int = 0

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """Nano-USD that a request cannot pass, however its input turns out to be cached or tiered."""
        total = input_tokens + self.fetched
        exact = max(total * rates.dearest_input + output_tokens * self._output(rates) for rates in self._reachable(total))
        return self.fees + (exact + PER_MILLION - 1) // PER_MILLION

    def affordable_output(self, amount: int, input_tokens: int) -> int | None:
        """Return the output tokens that `amount` nano-USD pays for; None if output is free.

        Fees and input come first: the result is 0 if `amount` does not cover them. Free output has no limit,
        however little is left.
        """
        total, paid = input_tokens + self.fetched, (amount - self.fees) * PER_MILLION
        charged = [(rates.dearest_input, rate) for rates in self._reachable(total) if (rate := self._output(rates))]
        return max(min((paid - total * dearest) // rate for dearest, rate in charged), 0) if charged else None

    def _output(self, rates: Rates) -> int:
        return rates.dearest_output + self.output_extra

    def _reachable(self, input_tokens: int) -> list[Rates]:
        return [rates for start, rates in self.steps if input_tokens > start]


@lru_cache(maxsize=64)
def tiers_met(asked: str) -> frozenset[str]:
    """The tiers that a request for one may be billed as."""
    tier = asked.removesuffix(ANYWHERE)
    names = frozenset(ALSO_BILLED_AS.get(tier, (tier,)))
    return names if asked.endswith(ANYWHERE) else names | {IN_THE_US, *(f"{name}_{IN_THE_US}" for name in names)}


def flat(input_usd: str, output_usd: str, source: str) -> Price:
    """A price without cache rates or tiers, from USD per million tokens."""
    paid, made = nano_per_million(Decimal(input_usd)), nano_per_million(Decimal(output_usd))
    return Price(base=Rates(paid, paid, paid, paid, made), source=source)


def nano_per_million(usd: Decimal) -> int:
    return int((usd * NANO).to_integral_value())

"""Find the price of a model: the project's own, else the operator's, else the bundled one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.models import PriceOverride
from billing.pricing import Price, bundled_price
from projects.config_cache import ConfigCache

ANY_PROVIDER = ""
WILDCARD = "*"


@dataclass(frozen=True, slots=True)
class PricePeriod:
    """A cached price, with the times at which it starts and ends."""

    starts_at: datetime
    ends_at: datetime | None
    price: Price


class OverrideSet:
    """The price overrides of one owner, a project or the operator.

    Of the overrides with the same pattern, only the newest one that has started counts, even if it has ended
    since.
    """

    def __init__(self, overrides: Iterable[PriceOverride]) -> None:
        """Index the overrides, which must be given with the newest first."""
        self.periods: dict[tuple[str, str], list[PricePeriod]] = {}
        for override in overrides:
            period = PricePeriod(override.effective_from, override.ended_at, override.price())
            self.periods.setdefault((override.provider, override.model), []).append(period)
        wildcards = {model for _, model in self.periods if model.endswith(WILDCARD)}
        self.prefixes = sorted(wildcards, key=len, reverse=True)

    def find(self, providers: tuple[str, ...], model: str, at: datetime) -> Price | None:
        """Return the price of the best match.

        A full name wins over a wildcard, a longer wildcard over a shorter one, and then a provider over any
        provider.
        """
        patterns = (model, *(prefix for prefix in self.prefixes if model.startswith(prefix[:-1])))
        for pattern in patterns:
            for provider in (*providers, ANY_PROVIDER):
                if price := self.active_at(provider, pattern, at):
                    return price
        return None

    def active_at(self, provider: str, pattern: str, at: datetime) -> Price | None:
        periods = self.periods.get((provider, pattern), ())
        started = (period for period in periods if period.starts_at <= at)
        newest = next(started, None)
        return newest.price if newest and (newest.ends_at is None or at < newest.ends_at) else None


@dataclass(frozen=True, slots=True)
class PriceList:
    """The overrides that apply to a project, its own before the operator's."""

    override_sets: tuple[OverrideSet, ...]

    def find(
        self,
        providers: tuple[str, ...],
        pricing_provider: str,
        model: str,
        at: datetime | None = None,
        *,
        regional: bool = False,
    ) -> Price | None:
        """Return the price of a model at a moment (default: now), or None if no price is known.

        `providers` are the names of the account in overrides. `pricing_provider` is the provider's name in
        genai-prices, or empty if it has none there. `regional`: at the provider's endpoint for one region,
        which only a bundled price distinguishes.
        """
        at = at or datetime.now(UTC)
        for override_set in self.override_sets:
            if override_set.periods and (price := override_set.find(providers, model, at)):
                return price
        if not pricing_provider:
            return None
        return bundled_price(pricing_provider, model, at, regional=regional)


def load_price_list(project_id: int) -> PriceList:
    own = PriceOverride.objects.filter(project=project_id).order_by("-effective_from", "-pk")
    return PriceList((OverrideSet(own), OverrideSet(PriceOverride.objects.for_operator())))


price_lists: ConfigCache[int, PriceList] = ConfigCache(load_price_list)

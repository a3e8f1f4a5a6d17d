"""Find the price of a model: of the project, the operator, a price file, or the bundled price."""

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
    """The price of an override, with its start and end."""

    starts_at: datetime
    ends_at: datetime | None
    price: Price


class OverrideSet:
    """The price overrides of a project, or those of the operator.

    Of several overrides with the same pattern, only the one that has started last counts, even if it has
    ended.
    """

    def __init__(self, overrides: Iterable[PriceOverride]) -> None:
        """Index the overrides, which must be ordered from new to old."""
        self.periods: dict[tuple[str, str], list[PricePeriod]] = {}
        for override in overrides:
            period = PricePeriod(override.effective_from, override.ended_at, override.price())
            self.periods.setdefault((override.provider, override.model), []).append(period)
        wildcards = {model for _, model in self.periods if model.endswith(WILDCARD)}
        self.prefixes = sorted(wildcards, key=len, reverse=True)

    def find(self, providers: tuple[str, ...], model: str, at: datetime) -> Price | None:
        """Return the price of the most specific match, or None.

        A full name takes precedence over a wildcard, and a longer wildcard over a shorter one. Of overrides
        with the same model name, one for a provider takes precedence over one for any provider.
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
    """The overrides that apply to a project: its own, those of the operator, and those of price files."""

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
        """Return the price of a model at a given time (default: now), or None if no price is known.

        `providers` are the names by which overrides can refer to the account. `pricing_provider` is the
        provider's name in genai-prices, or empty if it has none. `regional` means that the account uses the
        provider's endpoint for one region. Only bundled prices depend on it.
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
    operators, from_file = PriceOverride.objects.for_operator(), PriceOverride.objects.from_file()
    return PriceList((OverrideSet(own), OverrideSet(operators), OverrideSet(from_file)))


price_lists: ConfigCache[int, PriceList] = ConfigCache(load_price_list)

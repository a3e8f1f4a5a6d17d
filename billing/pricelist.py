"""Which price holds for a model: the project's own, else the operator's, else the bundled one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from billing.models import PriceOverride
from billing.prices import Price, bundled
from projects.configcache import ConfigCache

ANY = ""
STAR = "*"


@dataclass(frozen=True, slots=True)
class Term:
    """A price as gateway processes remember it, with the moments at which it begins and was ended."""

    begins: datetime
    ended: datetime | None
    price: Price


class Level:
    """The prices that one side has set. Of those for the same names the newest that has begun decides, even if it has ended since."""

    def __init__(self, overrides: Iterable[PriceOverride]) -> None:
        """Takes the newest first."""
        self.terms: dict[tuple[str, str], list[Term]] = {}
        for override in overrides:
            term = Term(override.effective_from, override.ended_at, override.price())
            self.terms.setdefault((override.provider, override.model), []).append(term)
        starred = {model for _, model in self.terms if model.endswith(STAR)}
        self.prefixes = sorted(starred, key=len, reverse=True)

    def find(self, providers: tuple[str, ...], model: str, moment: datetime) -> Price | None:
        """A whole name wins over the beginning of one, a longer beginning over a shorter, a named provider over any."""
        patterns = (model, *(prefix for prefix in self.prefixes if model.startswith(prefix[:-1])))
        for pattern in patterns:
            for provider in (*providers, ANY):
                if price := self.held(provider, pattern, moment):
                    return price
        return None

    def held(self, provider: str, pattern: str, moment: datetime) -> Price | None:
        begun = (term for term in self.terms.get((provider, pattern), ()) if term.begins <= moment)
        newest = next(begun, None)
        return newest.price if newest and (newest.ended is None or moment < newest.ended) else None


@dataclass(frozen=True, slots=True)
class PriceList:
    """All prices that are set for a project, its own before the operator's."""

    levels: tuple[Level, ...]

    def find(self, providers: tuple[str, ...], prices_id: str, model: str, moment: datetime | None = None) -> Price | None:
        """The price of a model at a moment (default: now). `providers`: the names that its account has; `prices_id`: its provider in
        genai-prices, empty where it has none. None where nobody knows a price."""
        moment = moment or datetime.now(UTC)
        for level in self.levels:
            if level.terms and (price := level.find(providers, model, moment)):
                return price
        return bundled(prices_id, model, moment) if prices_id else None


def load(project_id: int) -> PriceList:
    own = PriceOverride.objects.filter(project=project_id).order_by("-effective_from", "-pk")
    return PriceList((Level(own), Level(PriceOverride.objects.for_operator())))


price_lists: ConfigCache[int, PriceList] = ConfigCache(load)

"""Values of routing: the account and model that a request goes to, and the plan for reaching it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from billing.pricing import Price
from billing.pricing.price_list import PriceList
from proxy.formats.account_ids import AccountReference, IdReader
from proxy.formats.codec import Meter
from proxy.formats.neutral import ApiError, RequestFacts, Usage
from proxy.routing.accounts import Account
from proxy.upstream.response import UpstreamResponse


@dataclass(frozen=True, slots=True)
class Target:
    """Account and model that a request goes to. `price` is None for a model without a known price."""

    account: Account
    model: str
    price: Price | None

    def default_max_tokens(self, facts: RequestFacts) -> int | None:
        """Return the output tokens if the client sets no limit; None if that is not known beforehand."""
        limit = self.account.provider.default_max_tokens
        return None if limit is None else limit * facts.n

    def estimated_input_tokens(self, facts: RequestFacts) -> int:
        """Return how many tokens the provider probably counts for the input."""
        return -(-facts.max_input_tokens // self.account.provider.bytes_per_token)


def price_for(account: Account, model: str, price_list: PriceList) -> Price | None:
    """Return the price of a model at an account, or None if it is not known."""
    provider = account.provider
    if provider.fixed_price is not None:
        return provider.fixed_price
    return price_list.find(
        (account.slug, provider.slug),
        provider.pricing_provider,
        model,
        regional=provider.is_regional(account.base_url),
    )


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request to a provider.

    `dropped` names what was left out of the client's request, or changed. `format` is that of the request; if
    it is empty, it is the account's format for the operation.
    """

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    method: str = "POST"
    format: str = ""


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A non-streaming response that has been read.

    `usage` is None if the provider reports none; `output_tokens` is then our own count. `render` returns the
    body for the client.
    """

    usage: Usage | None
    output_tokens: int
    render: Callable[[], bytes]


@dataclass(frozen=True, slots=True)
class RenderedError:
    """A provider's error as the client gets it."""

    status: int
    content_type: str
    body: bytes


class UpstreamPlan(Protocol):
    """Plan for sending a request to a provider, and for returning the response to the client."""

    @property
    def facts(self) -> RequestFacts:
        """Return the facts that admission and pricing need."""

    def render_upstream(self, max_tokens: int | None) -> UpstreamRequest:
        """Return the request to send; `max_tokens` is the gateway's limit of each choice, if it sets one.

        Raises UnsupportedFeature for content that the provider's format cannot express.
        """

    def is_stream(self, response: UpstreamResponse) -> bool:
        """Return whether the response is relayed as it arrives, not read as a whole first."""

    def content_type(self, response: UpstreamResponse) -> str:
        """Return the content type that the client gets; empty if the provider sent none."""

    def keepalive(self, response: UpstreamResponse) -> Callable[[bytes], bytes]:
        """Return the function that renders keep-alives; it takes the end of what the client has received."""

    def meter(self) -> Meter:
        """Return a new meter for a stream; it also converts the stream if the formats differ."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the usage that a non-streaming response reports; else None and our count of its output."""

    def parse_response(self, body: bytes) -> ParsedResponse:
        """Read a non-streaming response. Raises InvalidUpstreamResponse."""

    def parse_error(self, status: int, body: bytes) -> ApiError:
        """Return the error of a provider's error response."""

    def passes_error(self, error: ApiError, body: bytes) -> bool:
        """Return whether the client gets the body of a provider's error as it is."""

    def render_error(self, error: ApiError, request_id: str) -> RenderedError:
        """Return an error in the client's format."""

    def references(self) -> list[AccountReference]:
        """Return the objects of the provider's account that the request names. Raises InvalidRequest."""

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that the response issues; None if it issues none."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A target that can serve a request, with the plan for reaching it."""

    target: Target
    plan: UpstreamPlan

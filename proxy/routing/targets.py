"""Types of routing: the account and model of a request, and the plan for sending the request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    """The account and the model to which a request is sent.

    `price` is None if no price is known. `timeout_s` is the time in seconds until the first data of a stream,
    or the end of another response; if it is None, the default timeouts apply.
    """

    account: Account
    model: str
    price: Price | None
    timeout_s: float | None = None
    is_substitute: bool = False

    def default_max_tokens(self, facts: RequestFacts) -> int | None:
        """Return the output limit that applies if the client sets none; None if it is not known."""
        limit = self.account.provider.default_max_tokens
        return None if limit is None else limit * facts.n

    def estimated_input_tokens(self, facts: RequestFacts) -> int:
        """Return the estimated number of tokens that the provider counts for the input."""
        return -(-facts.max_input_tokens // self.account.provider.bytes_per_token)


@dataclass(frozen=True, slots=True)
class Resolution:
    """The targets that serve a model, in the order in which they are called, and how calls are repeated.

    `retry_attempts` is the number of retries of one target, in addition to the first call. `retry_delay_ms`
    is the delay on which the backoff between two calls is based. `retries_context_length` is true if the next
    target is called when a prompt is too long for a model. `headers` are added to the response.
    """

    targets: tuple[Target, ...]
    retry_attempts: int
    retry_delay_ms: int
    retries_context_length: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


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

    `dropped` names the settings of the client that were left out or changed. `format` is the format of the
    request; if it is empty, the account's format for the operation applies.
    """

    path: str
    body: bytes
    dropped: tuple[str, ...] = ()
    method: str = "POST"
    format: str = ""


@dataclass(frozen=True, slots=True)
class ParsedResponse:
    """A parsed non-streaming response.

    `usage` is None if the provider reports none; `output_tokens` is then the gateway's own count. `render`
    returns the body for the client.
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
        """Return the facts for admission and pricing."""

    def render_upstream(self, max_tokens: int | None) -> UpstreamRequest:
        """Return the request to send.

        `max_tokens` is the output limit of each choice that the gateway sets, or None.

        Raises UnsupportedFeature for content that the provider's format cannot express.
        """

    def is_stream(self, response: UpstreamResponse) -> bool:
        """Return whether to relay the response as it arrives, instead of receiving the whole body first."""

    def content_type(self, response: UpstreamResponse) -> str:
        """Return the content type for the client. The result is empty if the provider sent none."""

    def keepalive(self, response: UpstreamResponse) -> Callable[[bytes], bytes]:
        """Return the function that renders keep-alives.

        Its argument is the end of what the client has received.
        """

    def meter(self) -> Meter:
        """Return a new meter for a stream. If the formats differ, the meter also converts the stream."""

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage and 0, or None and the gateway's count of the output tokens."""

    def billed_items(self, body: bytes) -> Usage:
        """Return the service tier and the calls of server tools of a response that reports no usage."""

    def parse_response(self, body: bytes) -> ParsedResponse:
        """Parse a non-streaming response. Raises InvalidUpstreamResponse."""

    def parse_error(self, status: int, body: bytes) -> ApiError:
        """Return the error of a provider's error response."""

    def opening_error(self, data: bytes, *, is_complete: bool) -> ApiError | None:
        """Return the error that a stream begins with; None if it begins with output or usage.

        `data` is the start of the provider's stream. `is_complete` is true if the provider has ended it.
        """

    def passes_error(self, error: ApiError, body: bytes) -> bool:
        """Return whether the client gets the body of a provider's error unchanged."""

    def render_error(self, error: ApiError, request_id: str) -> RenderedError:
        """Return an error in the client's format."""

    def references(self) -> list[AccountReference]:
        """Return the objects of the provider's account that the request names. Raises InvalidRequest."""

    def id_reader(self) -> IdReader | None:
        """Return a reader of the ids that the response issues; None if it issues none."""


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A target for a request, with the plan for sending the request to it."""

    target: Target
    plan: UpstreamPlan

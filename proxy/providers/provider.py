"""The type of a provider: a row of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from billing.pricing import Price
from proxy.formats.metering.token_counts import BYTES_PER_TOKEN
from proxy.formats.quirks import Quirks

CHAT_FORMAT = "openai_chat"
RESPONSES_FORMAT = "openai_responses"
MESSAGES_FORMAT = "anthropic"
GEMINI_FORMAT = "gemini"
HTTP_CLIENT = "http"


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """Facts about a provider: its formats and URLs, its authentication, its quirks and its prices.

    `base_urls` maps each format to the URL that its paths begin with; conversions prefer the first format. An
    empty URL means that each credential sets its own. `pricing_provider` is the provider's name in
    genai-prices; it is empty if genai-prices has no prices for the provider.
    """

    slug: str
    name: str
    base_urls: Mapping[str, str]
    pricing_provider: str = ""
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    headers: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    path_prefix: str = ""
    """Inserted between base URL and path, with `{model}`, for servers that have the model in the URL."""
    query_string: str = ""
    redundant_endings: tuple[str, ...] = ()
    """Ends of a base URL that are left out one after the other, because the provider's paths begin with them.
    """
    supports_count_tokens: bool = False
    """Whether it counts tokens of a request in its own format. If not, the gateway estimates them."""
    regional_hosts: str = ""
    """End of the hosts of its endpoints for one region, which may have prices of their own."""
    client: str = HTTP_CLIENT
    """The client in `runtime.clients` that calls this provider."""
    bytes_per_token: int = BYTES_PER_TOKEN
    """Bytes of input that it probably counts as one token."""
    default_max_tokens: int | None = None
    """Output tokens of a choice if the client sets no limit; None if that is not known beforehand."""
    fixed_price: Price | None = None
    """The price of all its models, which no price list changes; None if the price list has the prices."""

    @property
    def base_url(self) -> str:
        """Return the base URL of the format that conversions prefer."""
        return next(iter(self.base_urls.values()))

    def is_regional(self, base_url: str) -> bool:
        """Return whether a base URL is that of an endpoint for one region."""
        host = urlsplit(base_url).hostname or ""
        return bool(self.regional_hosts) and host.endswith(self.regional_hosts)

    def auth_headers(self, secret: str) -> dict[str, str]:
        """Return the header that carries the API key; empty without a key."""
        return {self.key_header: f"{self.key_prefix}{secret}"} if secret else {}


def openai_compatible(
    slug: str,
    name: str,
    base_url: str,
    pricing_provider: str = "",
    *,
    messages: str = "",
    responses: str = "",
    quirks: Quirks | None = None,
    regional_hosts: str = "",
) -> Provider:
    """Return a provider of OpenAI's chat format.

    `messages` is the base URL of its Messages API (Anthropic's format) and `responses` that of its Responses
    API, if it has them.
    """
    urls = {CHAT_FORMAT: base_url, RESPONSES_FORMAT: responses, MESSAGES_FORMAT: messages}
    base_urls = {format: url for format, url in urls.items() if url or format == CHAT_FORMAT}
    return Provider(
        slug,
        name,
        base_urls,
        pricing_provider,
        quirks=quirks or Quirks(),
        regional_hosts=regional_hosts,
    )

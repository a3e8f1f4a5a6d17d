"""The type of a provider: a row of the catalog."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import urlsplit

from billing.pricing import Price
from proxy.formats.metering.token_counts import BYTES_PER_TOKEN
from proxy.formats.quirks import Quirks

CHAT_FORMAT = "openai_chat"
RESPONSES_FORMAT = "openai_responses"
MESSAGES_FORMAT = "anthropic"
GEMINI_FORMAT = "gemini"
HTTP_CLIENT = "http"


@lru_cache(maxsize=1024)
def host_of(base_url: str) -> str:
    """Return the host of a base URL; empty if it has none."""
    return urlsplit(base_url).hostname or ""


@dataclass(frozen=True, slots=True, eq=False)
class Provider:
    """A provider: its formats and URLs, its authentication, its quirks and its prices.

    `base_urls` maps each format to the URL with which its paths begin. Conversions prefer the first format.
    If a URL is empty, each credential must set its own. `pricing_provider` is the provider's name in
    genai-prices, or empty if genai-prices has no prices for the provider.
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
    """Path between the base URL and the path of the API.

    It contains `{model}` for servers that expect the model in the URL.
    """
    query_string: str = ""
    redundant_endings: tuple[str, ...] = ()
    """Endings to remove from a base URL one after the other, because the provider's paths begin with them."""
    supports_count_tokens: bool = False
    """Whether the provider counts tokens of requests in its own format.

    If not, the gateway estimates them.
    """
    regional_hosts: str = ""
    """The ending of the host names of its endpoints for one region, which may have their own prices."""
    check_path: str = "/models"
    """Path of a GET request that costs nothing, below the base URL. A test of a credential sends it."""
    check_needs_key: bool = True
    """Whether the response to `check_path` shows that the key is valid."""
    has_public_url: bool = True
    """Whether the base URL is that of a public service, to which a caller's own key can be sent."""
    client: str = HTTP_CLIENT
    """Name of the client in `runtime.clients` that calls this provider."""
    bytes_per_token: int = BYTES_PER_TOKEN
    """Estimated number of bytes of input for one token."""
    default_max_tokens: int | None = None
    """Output tokens of a choice if the client sets no limit; None if the number is not known."""
    fixed_price: Price | None = None
    """The price of all models of the provider, which no price list changes; None to use the price list."""

    @property
    def base_url(self) -> str:
        """Return the base URL of the format that conversions prefer."""
        return next(iter(self.base_urls.values()))

    def is_regional(self, base_url: str) -> bool:
        """Return whether a base URL is that of an endpoint for one region."""
        return bool(self.regional_hosts) and host_of(base_url).endswith(self.regional_hosts)

    def auth_headers(self, secret: str) -> dict[str, str]:
        """Return the headers that carry the API key. The result is empty without a key."""
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
    check_path: str = "/models",
    has_public_url: bool = True,
) -> Provider:
    """Return a provider of OpenAI's chat format.

    If the provider has the Messages API (Anthropic's format) or the Responses API, `messages` and `responses`
    are their base URLs.
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
        check_path=check_path,
        has_public_url=has_public_url,
    )

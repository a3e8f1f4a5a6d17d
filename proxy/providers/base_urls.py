"""Base URLs of providers, in the spellings in which people copy them from a vendor's documents.

A path of the provider's API is appended to a base URL. One that ends in a slash, in a version, or in a whole
endpoint therefore names the same server as the one without.
"""

import re
from urllib.parse import urlsplit

from proxy.providers.provider import Provider

ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|messages(?:/count_tokens)?|models/[^/]+:\w+)$"
)
"""An endpoint at the end of a base URL. `/models` is missing here: Azure AI has it in its base URL."""
DEPLOYMENT = re.compile(r"/openai/deployments(?:/|$)")


class UnusableBaseURL(ValueError):
    """The base URL cannot work with the provider. The message says what to enter instead."""


def check_base_url(provider: Provider, url: str) -> None:
    """Raise UnusableBaseURL for a URL that already names a model, if the provider's paths name one."""
    if provider.path_prefix and DEPLOYMENT.search(url):
        raise UnusableBaseURL(
            "Enter the address of the resource, such as https://NAME.openai.azure.com, without a deployment. "
            "The deployment is the name of the model in requests"
        )


def normalize_base_url(provider: Provider, url: str) -> str:
    """Return the URL that the provider's paths are appended to; empty if the URL is."""
    url = ENDPOINT.sub("", url.rstrip("/"))
    for ending in provider.redundant_endings:
        url = url.removesuffix(ending)
    return with_vendor_path(provider, url) if url else ""


def with_vendor_path(provider: Provider, url: str) -> str:
    """Complete a host alone, and the provider's host with a part of its path, by the provider's own path."""
    own, given = urlsplit(provider.base_url), urlsplit(url)
    if given.path and not (own.netloc == given.netloc and own.path.endswith(given.path)):
        return url
    return url.removesuffix(given.path) + own.path

"""Normalize the base URLs of providers, which people copy from documents in different spellings.

A path of the provider's API is appended to a base URL. Therefore a base URL that ends in a slash, a version
or a whole endpoint means the same as the URL without this end.
"""

import re
from urllib.parse import urlsplit

from proxy.providers.provider import Provider

ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|messages(?:/count_tokens)?|models/[^/]+:\w+)$"
)
"""Endpoints that are removed from the end of a base URL.

`/models` is not among them, because it is a part of the base URL of Azure AI.
"""
DEPLOYMENT = re.compile(r"/openai/deployments(?:/|$)")


class UnusableBaseURL(ValueError):
    """The base URL cannot work with the provider. The message says what to enter instead."""


def check_base_url(provider: Provider, url: str) -> None:
    """Raise UnusableBaseURL if the URL already contains a model and the provider's paths contain one too."""
    if provider.path_prefix and DEPLOYMENT.search(url):
        raise UnusableBaseURL(
            "Enter the address of the resource, such as https://NAME.openai.azure.com, without a deployment. "
            "The deployment is the name of the model in requests"
        )


def normalize_base_url(provider: Provider, url: str) -> str:
    """Return the URL to which the provider's paths are appended. The result is empty if `url` is empty."""
    url = ENDPOINT.sub("", url.rstrip("/"))
    for ending in provider.redundant_endings:
        url = url.removesuffix(ending)
    return with_vendor_path(provider, url) if url else ""


def with_vendor_path(provider: Provider, url: str) -> str:
    """Add the provider's path to a URL that has only a host, or only a part of the provider's path."""
    own, given = urlsplit(provider.base_url), urlsplit(url)
    if given.path and not (own.netloc == given.netloc and own.path.endswith(given.path)):
        return url
    return url.removesuffix(given.path) + own.path

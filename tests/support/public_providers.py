"""Providers whose own public URLs are at the local upstream."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from proxy.providers.catalog import ANTHROPIC, GEMINI, OPENAI, PROVIDERS
from tests.support.upstream_server import LocalUpstream


@contextmanager
def public_providers(upstream: LocalUpstream) -> Iterator[None]:
    """Let OpenAI, Anthropic and Gemini have their own URLs at the local upstream."""
    root = upstream.url.removesuffix("/v1")
    with pytest.MonkeyPatch.context() as patch:
        for slug in (OPENAI, ANTHROPIC, GEMINI):
            provider = PROVIDERS[slug]
            base = f"{root}/public/{slug}"
            moved = replace(provider, base_urls=dict.fromkeys(provider.base_urls, base))
            patch.setitem(PROVIDERS, slug, moved)
        yield

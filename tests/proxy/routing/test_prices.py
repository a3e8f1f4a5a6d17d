"""Prices of accounts: by provider, and by the region of an endpoint."""

from datetime import UTC, datetime

import pytest

from billing.pricing import bundled_price
from billing.pricing.price_list import load_price_list
from projects.models import Project
from proxy.models import Credential
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import Account
from proxy.routing.prices import ProviderPrices
from proxy.routing.targets import price_for

AT = datetime(2026, 11, 1, tzinfo=UTC)
MODEL = "gpt-6-astra"

base_urls = pytest.mark.parametrize(
    ("provider", "base_url", "is_regional"),
    [
        ("openai", "https://api.openai.com/v1", False),
        ("openai", "https://eu.api.openai.com/v1", True),
        ("openai", "https://US.API.OpenAI.com:443/v1", True),
        ("openai", "https://gateway.example/eu.api.openai.com/v1", False),
        ("openai", "https://eu.api.openai.com.example/v1", False),
        ("xai", "https://us.api.x.ai/v1", True),
        ("xai", "https://api.x.ai/v1", False),
        ("groq", "https://eu.api.openai.com/v1", False),
    ],
)


@base_urls
def test_the_host_decides_on_the_region(provider: str, base_url: str, is_regional: bool) -> None:
    assert PROVIDERS[provider].is_regional(base_url) is is_regional


@pytest.mark.django_db
@pytest.mark.parametrize("regional", [False, True])
def test_requests_and_repricing_use_the_price_of_the_region(demo_project: Project, regional: bool) -> None:
    base_url = f"https://{'eu.' if regional else ''}api.openai.com/v1"
    Credential.objects.create(project=demo_project, slug="mine", provider="openai", base_url=base_url)
    account = Account("mine", PROVIDERS["openai"], base_url, "sk")
    expected = bundled_price("openai", MODEL, regional=regional)
    assert price_for(account, MODEL, load_price_list(demo_project.pk)) == expected
    assert ProviderPrices(demo_project).price_at("mine", MODEL, AT) == bundled_price(
        "openai", MODEL, AT, regional=regional
    )

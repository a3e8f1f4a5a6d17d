"""No URL of a tenant reaches the own machine or the private network, on any route that takes a URL."""

import asyncio
import re
from collections.abc import Callable
from uuid import uuid4

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.urls import reverse

from billing.alerts import webhook
from billing.models import Webhook
from billing.tasks import deliver_alerts
from projects import outbound, outbound_http
from projects.models import Project, User
from projects.outbound import BlockedURL
from proxy.models import Credential
from proxy.providers import key_check
from proxy.providers.catalog import PROVIDERS
from proxy.upstream.client import HttpUpstreamClient
from proxy.upstream.errors import UpstreamError
from proxy.upstream.timeouts import Timeouts
from tests.support.canary import FORMS, PUBLIC, Canary, Resolver, gather_results
from tests.support.factories import signed_in
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.usefixtures("resolver", "recorded_connections", "only_redirect_is_allowed")


@pytest.fixture
def only_redirect_is_allowed(change_environment: Callable[..., None]) -> None:
    change_environment(gateway_private_upstreams=("redirect.test",))


async def call_as_provider(url: str) -> str:
    client = HttpUpstreamClient(Timeouts(first_chunk_s=2, idle_s=2))
    try:
        async with await client.request("POST", url, b"{}", {}, trusted=False) as response:
            return f"status {response.status}"
    except (BlockedURL, UpstreamError) as error:
        return type(error).__name__
    finally:
        await client.close()


async def test_a_call_to_a_provider(canary: Canary, ssrf_urls: list[str]) -> None:
    results = await gather_results(*map(call_as_provider, ssrf_urls))
    assert all(isinstance(result, str) for result in results), results
    assert not [result for result in results if result == "status 200"]
    assert canary.connections == 0


async def test_a_webhook(canary: Canary, ssrf_urls: list[str]) -> None:
    messages = [webhook.sign(uuid4(), url, {}, b"key") for url in ssrf_urls]
    results = await webhook.send_all(messages)
    assert all(result.failure_reason for result in results)
    assert not [result for result in results if result.failure_reason == webhook.UNEXPECTED_ERROR]
    assert canary.connections == 0


async def test_a_test_of_a_credential(canary: Canary, ssrf_urls: list[str]) -> None:
    provider = PROVIDERS["compatible"]
    results = await gather_results(*(key_check.check(provider, url, "sk") for url in ssrf_urls))
    assert all(isinstance(result, str) and result for result in results), results
    assert canary.connections == 0


def test_a_credential_or_webhook_that_is_saved(
    project: Project, canary: Canary, ssrf_urls: list[str]
) -> None:
    """Forms accept only names, whose addresses are checked when a connection is opened."""
    accepted: set[str] = set()
    for number, url in enumerate(ssrf_urls):
        for row in (
            Credential(project=project, slug=f"c{number}", provider="compatible", base_url=url),
            Webhook(project=project, name=f"w{number}", url=url, sealed_secret="x"),
        ):
            try:
                row.full_clean()
            except (ValidationError, ValueError):
                continue
            accepted.add(url.split("/")[2].rpartition(":")[0].lower())
    names = {"localhost", "localhost.", "loopback.test", "mapped.test", "both.test", "ⓛocalhost"}
    assert accepted <= names | {"metadata.google.internal", "rebinding.test", "redirect.test"}
    assert canary.connections == 0


async def test_an_address_that_changes_after_the_check_is_not_used(
    canary: Canary, resolver: Resolver, recorded_connections: list[str]
) -> None:
    url = f"http://rebinding.test:{canary.port}/v1"
    assert await call_as_provider(url) == "UpstreamConnectionError"
    assert recorded_connections == [PUBLIC] and resolver.lookups["rebinding.test"] == 1
    assert await call_as_provider(url) == "BlockedURL"
    assert canary.connections == 0


async def test_a_redirect_is_returned_and_not_followed(
    canary: Canary, redirecting_server: LocalUpstream, ssrf_urls: list[str]
) -> None:
    redirects = [url for url in ssrf_urls if "redirect.test" in url]
    results = await asyncio.gather(*map(call_as_provider, redirects))
    assert sorted(results) == [f"status {status}" for status in (301, 302, 303, 307, 308)]
    assert len(redirecting_server.requests) == 5 and canary.connections == 0


async def test_the_canary_is_reached_without_the_guard(
    canary: Canary, ssrf_urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other tests can fail: without the checks, most of the URLs reach the canary."""
    for module in (outbound, outbound_http):
        if hasattr(module, "resolve_public"):
            monkeypatch.setattr(module, "resolve_public", outbound.resolve)
    messages = [webhook.sign(uuid4(), url, {}, b"key") for url in ssrf_urls[15:60]]
    await webhook.send_all(messages)
    assert canary.connections >= 10


def test_there_are_at_least_60_forms() -> None:
    assert len(set(FORMS)) >= 60
    assert settings.ENV.gateway_private_upstreams == ("redirect.test",)


def test_the_pages_that_take_a_url_reach_nothing(
    project: Project, alice: User, canary: Canary, ssrf_urls: list[str]
) -> None:
    """Save a credential and a webhook for each host that forms accept. The gateway calls both at once."""
    client = signed_in(alice)
    names = [url for url in ssrf_urls if re.search(r"//(localhost|mapped.test|rebinding.test):|/307", url)]
    for number, url in enumerate(names):
        fields = {"slug": f"c{number}", "provider": "compatible", "base_url": url, "secret": "sk-x"}
        page = client.post(reverse("credential-new", args=[project.slug]), fields, follow=True)
        assert "It could not be verified" in page.content.decode(), url
        client.post(reverse("webhook-new", args=[project.slug]), {"name": f"w{number}", "url": url})
        webhook_row = Webhook.objects.get(name=f"w{number}")
        client.post(reverse("webhook-test", args=[project.slug, webhook_row.pk]))
        deliver_alerts()
        assert webhook_row.deliveries.get().failure_reason, url
        webhook_row.delete()
    assert len(names) == 4 and canary.connections == 0

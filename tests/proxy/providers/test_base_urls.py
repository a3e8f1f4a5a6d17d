"""A base URL in any spelling reaches the vendor's path, or is rejected when it is saved."""

import httpx
import pytest
from django.core.exceptions import ValidationError

from projects.models import Project
from proxy.models import Credential
from proxy.providers.catalog import PROVIDERS
from proxy.routing.accounts import account_from_credential
from tests.support.upstream_server import LocalUpstream

HOST = "http://127.0.0.1:1"
CHAT, MESSAGES, GENERATE = "/chat/completions", "/v1/messages", "/v1beta/models/m:generateContent"
DEPLOYMENT = "/openai/deployments/m/chat/completions?api-version=2024-10-21"


def called_url(project: Project, provider: str, base_url: str) -> str:
    """Return the URL that a request for the model `m` is sent to."""
    account = account_from_credential(Credential(project=project, provider=provider, base_url=base_url))
    format = account.formats[0]
    path = {"anthropic": MESSAGES, "gemini": GENERATE}.get(format, CHAT)
    return account.url(format, path, "m")


@pytest.mark.parametrize(
    ("provider", "base_url", "url"),
    [
        ("compatible", HOST, f"{HOST}{CHAT}"),
        ("compatible", f"{HOST}/", f"{HOST}{CHAT}"),
        ("compatible", f"{HOST}/v1/", f"{HOST}/v1{CHAT}"),
        ("compatible", f"{HOST}/v1/chat/completions", f"{HOST}/v1{CHAT}"),
        ("compatible", f"{HOST}/v1/chat/completions/", f"{HOST}/v1{CHAT}"),
        ("compatible", f"{HOST}/api/v1/embeddings", f"{HOST}/api/v1{CHAT}"),
        ("compatible", f"{HOST}/v1/responses", f"{HOST}/v1{CHAT}"),
        ("compatible", f"{HOST}/v1/completions", f"{HOST}/v1{CHAT}"),
        ("compatible", f"{HOST}/v1beta/openai/", f"{HOST}/v1beta/openai{CHAT}"),
        ("compatible", f"{HOST}/models", f"{HOST}/models{CHAT}"),
        ("anthropic", HOST, f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/", f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/v1", f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/v1/", f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/v1/messages", f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/v1/messages/count_tokens", f"{HOST}{MESSAGES}"),
        ("anthropic", f"{HOST}/anthropic/v1", f"{HOST}/anthropic{MESSAGES}"),
        ("gemini", HOST, f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1beta", f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1", f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1beta/models", f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1beta/openai", f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1beta/openai/chat/completions", f"{HOST}{GENERATE}"),
        ("gemini", f"{HOST}/v1beta/models/gemini-2.5-pro:generateContent", f"{HOST}{GENERATE}"),
        ("azure", HOST, f"{HOST}{DEPLOYMENT}"),
        ("azure", f"{HOST}/openai", f"{HOST}{DEPLOYMENT}"),
        ("azure", f"{HOST}/openai/v1/", f"{HOST}{DEPLOYMENT}"),
        ("azure", f"{HOST}/openai/v1/chat/completions", f"{HOST}{DEPLOYMENT}"),
        ("ollama", HOST, f"{HOST}/v1{CHAT}"),
        ("vllm", f"{HOST}/", f"{HOST}/v1{CHAT}"),
        ("vllm", f"{HOST}/models/llama/v1", f"{HOST}/models/llama/v1{CHAT}"),
        ("openai", HOST, f"{HOST}/v1{CHAT}"),
        ("openai", f"{HOST}/openai", f"{HOST}/openai{CHAT}"),
        ("openai", "https://api.openai.com", f"https://api.openai.com/v1{CHAT}"),
        ("groq", "https://api.groq.com", f"https://api.groq.com/openai/v1{CHAT}"),
        ("groq", "https://api.groq.com/v1", f"https://api.groq.com/openai/v1{CHAT}"),
        ("openrouter", "https://openrouter.ai/v1", f"https://openrouter.ai/api/v1{CHAT}"),
        ("deepseek", "https://api.deepseek.com/beta", f"https://api.deepseek.com/beta{CHAT}"),
    ],
)
def test_a_base_url_in_any_spelling_reaches_the_vendors_path(
    project: Project, provider: str, base_url: str, url: str
) -> None:
    assert called_url(project, provider, base_url) == url


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - {"demo", "compatible", "azure"}))
def test_the_providers_own_url_is_the_same_in_every_spelling(project: Project, provider: str) -> None:
    own = PROVIDERS[provider].base_url
    expected = called_url(project, provider, "")
    assert {called_url(project, provider, f"{own}{ending}") for ending in ("", "/")} == {expected}
    account = account_from_credential(Credential(project=project, provider=provider, base_url=f"{own}/"))
    assert account.formats == tuple(PROVIDERS[provider].base_urls)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://acme.openai.azure.com/openai/deployments/gpt-4o",
        "https://acme.openai.azure.com/openai/deployments/gpt-4o/chat/completions",
    ],
)
def test_a_url_that_names_a_deployment_is_refused_when_it_is_saved(project: Project, base_url: str) -> None:
    credential = Credential(project=project, slug="az", provider="azure", base_url=base_url)
    with pytest.raises(ValidationError, match="The deployment is the name of the model"):
        credential.full_clean()
    Credential(project=project, slug="other", provider="compatible", base_url=base_url).full_clean()


@pytest.mark.databases
@pytest.mark.parametrize("ending", ["", "/", "/chat/completions"])
def test_a_request_reaches_the_provider(
    gateway: httpx.Client, upstream: LocalUpstream, demo_project: Project, ending: str
) -> None:
    Credential.objects.create(
        project=demo_project, slug="local", provider="compatible", base_url=f"{upstream.url}{ending}"
    )
    chat = {"model": "local/m", "messages": [{"role": "user", "content": "Hi"}]}
    assert gateway.post("/v1/chat/completions", json=chat).status_code == 200
    assert [request.path for request in upstream.requests] == ["/v1/chat/completions"]

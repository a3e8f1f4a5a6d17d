"""Every provider in the catalog can be called, has prices, and can serve converted requests."""

import genai_prices.data
import msgspec
import pytest
from django.core.exceptions import ValidationError

from projects.models import Project
from proxy.formats.neutral import Message, Reasoning, Request, Text, Thinking, Tool, ToolCall
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.models import Credential
from proxy.providers.catalog import CATALOG, DEMO, PROVIDERS
from proxy.providers.provider import Provider
from proxy.routing.accounts import account_from_credential

TUNING = {field.name for field in msgspec.structs.fields(Request)} - {
    "model",
    "messages",
    "system",
    "tools",
    "stream",
    "unmapped_settings",
}
NON_SETTING_QUIRKS = {"wants_usage", "thinking", "cache", "custom_tools"}
PRICED = {provider.id for provider in genai_prices.data.providers}
REQUEST = Request(
    model="m",
    messages=(
        Message(role="user", parts=(Text(text="Hi"),)),
        Message(
            role="assistant",
            parts=(
                Thinking(text="Hm", signature="proof", origin="openai_chat"),
                ToolCall(id="call_1", name="look", arguments="{}", signature="proof", origin="gemini"),
            ),
        ),
    ),
    tools=(Tool(name="look"),),
    reasoning=Reasoning(effort="high", visible=True),
)


@pytest.mark.parametrize("provider", CATALOG, ids=lambda provider: provider.slug)
def test_catalog_row_is_valid(provider: Provider) -> None:
    assert PROVIDERS[provider.slug] is provider
    assert provider.base_urls.keys() <= CODECS.keys()
    for base in provider.base_urls.values():
        assert base == "" or (base.startswith(("https://", "http://localhost:")) and not base.endswith("/"))
    assert provider.pricing_provider == "" or provider.pricing_provider in PRICED
    quirks = provider.quirks
    for names in (quirks.unsupported, *quirks.unsupported_by_model.values()):
        assert names <= TUNING | NON_SETTING_QUIRKS
    assert quirks.extra_settings | quirks.renamed_settings.keys() <= TUNING


@pytest.mark.parametrize("provider", CATALOG, ids=lambda provider: provider.slug)
def test_thinking_is_sent_only_to_servers_that_support_it(provider: Provider) -> None:
    target = CODECS[next(iter(provider.base_urls))]
    sent = msgspec.json.encode(target.render_request(REQUEST, provider.quirks).body)
    assert b"look" in sent
    if "thinking" in provider.quirks.unsupported:
        assert (
            b"Hm" not in sent and b"proof" not in sent and b"encrypted" not in sent and b"summary" not in sent
        )


def test_quirks_of_some_models_add_to_those_of_the_server() -> None:
    quirks = Quirks(
        unsupported=frozenset({"seed"}),
        unsupported_by_model={"deep-": frozenset({"stop"}), "deep-2": frozenset({"user"})},
    )
    assert quirks.unsupported_for("plain") == {"seed"}
    assert quirks.unsupported_for("deep-1") == {"seed", "stop"}
    assert quirks.unsupported_for("deep-2-large") == {"seed", "stop", "user"}


def credential(project: Project, provider: str, base_url: str = "") -> Credential:
    made = Credential(project=project, slug="mine", provider=provider, base_url=base_url)
    made.set_secret("sk-mine")
    return made


@pytest.mark.parametrize(
    "provider",
    [provider for provider in CATALOG if provider.slug != DEMO],
    ids=lambda provider: provider.slug,
)
def test_a_credential_reaches_every_format_of_its_provider(project: Project, provider: Provider) -> None:
    account = account_from_credential(
        credential(project, provider.slug, "" if provider.base_url else "https://llm.example.org/v1")
    )
    assert account.formats == tuple(provider.base_urls)
    for format, base in provider.base_urls.items():
        assert account.url(format, "/path", "m").startswith(base or "https://llm.example.org/v1")


def test_a_compatible_server_is_called_at_its_own_url_with_its_own_key(project: Project) -> None:
    account = account_from_credential(credential(project, "compatible", "https://llm.example.org/v1/"))
    assert (
        account.url("openai_chat", "/chat/completions", "m") == "https://llm.example.org/v1/chat/completions"
    )
    assert account.provider.auth_headers(account.secret or "") == {"authorization": "Bearer sk-mine"}
    assert [account.format_for(client) for client in CODECS] == ["openai_chat"] * len(CODECS)
    assert not account.trusted


@pytest.mark.parametrize("provider", ["compatible", "azure"])
def test_a_provider_without_a_known_url_needs_one(project: Project, provider: str) -> None:
    with pytest.raises(ValidationError, match="base URL"):
        credential(project, provider).clean()


def test_an_own_url_replaces_only_the_main_one(project: Project) -> None:
    account = account_from_credential(credential(project, "deepseek", "https://proxy.example.org/v1"))
    assert account.format_for("anthropic") == "openai_chat"
    assert (
        account.url("openai_chat", "/chat/completions", "m")
        == "https://proxy.example.org/v1/chat/completions"
    )


@pytest.mark.parametrize(("model", "kind"), [("gpt-5", "custom"), ("gpt-oss:20b", "function")])
def test_free_text_tools_are_sent_to_openais_own_models_only(model: str, kind: str) -> None:
    request = msgspec.structs.replace(REQUEST, model=model, tools=(Tool(name="look", custom=True),))
    (tool,) = CODECS["openai_chat"].render_request(request, Quirks()).body["tools"]
    assert tool["type"] == kind

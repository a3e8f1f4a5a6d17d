"""The rows of the provider table: each can be reached, priced and converted to."""

import genai_prices.data
import msgspec
import pytest
from django.core.exceptions import ValidationError

from projects.models import Project
from proxy.accounts import account_of
from proxy.conversion import CODECS
from proxy.formats.codec import Quirks
from proxy.formats.neutral import Message, Reasoning, Request, Text, Thinking, Tool, ToolCall
from proxy.models import Credential
from proxy.providers import ALL, DEMO, PROVIDERS, Provider

TUNING = {field.name for field in msgspec.structs.fields(Request)} - {"model", "messages", "system", "tools", "stream", "extras"}
BESIDE_SETTINGS = {"wants_usage", "thoughts", "cache", "custom_tools"}
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


@pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.slug)
def test_a_row_is_sound(provider: Provider) -> None:
    assert PROVIDERS[provider.slug] is provider
    assert provider.bases.keys() <= CODECS.keys()
    for base in provider.bases.values():
        assert base == "" or (base.startswith(("https://", "http://localhost:")) and not base.endswith("/"))
    assert provider.prices_id == "" or provider.prices_id in PRICED
    quirks = provider.quirks
    for names in (quirks.unsupported, *quirks.models.values()):
        assert names <= TUNING | BESIDE_SETTINGS
    assert quirks.extended | quirks.renamed.keys() <= TUNING


@pytest.mark.parametrize("provider", ALL, ids=lambda provider: provider.slug)
def test_thoughts_reach_only_servers_that_take_them(provider: Provider) -> None:
    target = CODECS[next(iter(provider.bases))]
    sent = msgspec.json.encode(target.render_request(REQUEST, provider.quirks).body)
    assert b"look" in sent
    if "thoughts" in provider.quirks.unsupported:
        assert b"Hm" not in sent and b"proof" not in sent and b"encrypted" not in sent and b"summary" not in sent


def test_quirks_of_some_models_add_to_those_of_the_server() -> None:
    quirks = Quirks(unsupported=frozenset({"seed"}), models={"deep-": frozenset({"stop"}), "deep-2": frozenset({"user"})})
    assert quirks.rejected("plain") == {"seed"}
    assert quirks.rejected("deep-1") == {"seed", "stop"}
    assert quirks.rejected("deep-2-large") == {"seed", "stop", "user"}


def credential(project: Project, provider: str, base_url: str = "") -> Credential:
    made = Credential(project=project, slug="mine", provider=provider, base_url=base_url)
    made.store_secret("sk-mine")
    return made


@pytest.mark.parametrize("provider", [provider for provider in ALL if provider.slug != DEMO], ids=lambda provider: provider.slug)
def test_a_credential_reaches_every_format_of_its_provider(project: Project, provider: Provider) -> None:
    account = account_of(credential(project, provider.slug, "" if provider.base_url else "https://llm.example.org/v1"))
    assert account.formats == tuple(provider.bases)
    for format, base in provider.bases.items():
        assert account.url(format, "/path", "m").startswith(base or "https://llm.example.org/v1")


def test_a_compatible_server_is_called_at_its_own_address_with_its_own_key(project: Project) -> None:
    account = account_of(credential(project, "compatible", "https://llm.example.org/v1/"))
    assert account.url("openai_chat", "/chat/completions", "m") == "https://llm.example.org/v1/chat/completions"
    assert account.provider.auth_headers(account.secret or "") == {"authorization": "Bearer sk-mine"}
    assert [account.format_for(client) for client in CODECS] == ["openai_chat"] * len(CODECS)
    assert not account.trusted


@pytest.mark.parametrize("provider", ["compatible", "azure"])
def test_a_server_without_a_known_address_needs_one(project: Project, provider: str) -> None:
    with pytest.raises(ValidationError, match="address"):
        credential(project, provider).clean()


def test_an_own_address_stands_for_the_main_one_alone(project: Project) -> None:
    account = account_of(credential(project, "deepseek", "https://proxy.example.org/v1"))
    assert account.format_for("anthropic") == "openai_chat"
    assert account.url("openai_chat", "/chat/completions", "m") == "https://proxy.example.org/v1/chat/completions"


@pytest.mark.parametrize(("model", "kind"), [("gpt-5", "custom"), ("gpt-oss:20b", "function")])
def test_tools_of_free_text_are_for_openais_own_models(model: str, kind: str) -> None:
    request = msgspec.structs.replace(REQUEST, model=model, tools=(Tool(name="look", custom=True),))
    (tool,) = CODECS["openai_chat"].render_request(request, Quirks()).body["tools"]
    assert tool["type"] == kind

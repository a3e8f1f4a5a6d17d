"""Resolution of model names to providers, in the documented order."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings

from billing.pricing import Price, bundled_price
from proxy.errors import GatewayError
from proxy.models.route_definitions import parse_duration
from proxy.providers.catalog import PROVIDERS
from proxy.routing import accounts, config_file
from proxy.routing.accounts import Account
from proxy.routing.config_file import ConfigError, parse_model_urls
from proxy.routing.model_list import model_counter
from tests.support.operator_accounts import first_target, resolution

OPENAI = Account("openai", PROVIDERS["openai"], "https://api.openai.com/v1", "sk", trusted=True)
ANTHROPIC = Account("anthropic", PROVIDERS["anthropic"], "https://api.anthropic.com", "sk", trusted=True)
LOCAL = Account(
    "local", PROVIDERS["compatible"], "http://127.0.0.1:1/v1", "", frozenset({"llama3", "gpt-4o-mini"})
)


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[..., None]]:
    before = settings.ENV

    def apply(yaml: str = "", **variables: object) -> None:
        path = tmp_path / "routes.yaml"
        path.write_text(yaml or "version: 1")
        settings.ENV = before.model_copy(update={"ai_gateway_config": path, **variables})
        config_file.load.cache_clear()
        accounts.load_operator_accounts.cache_clear()

    apply()
    yield apply
    settings.ENV = before
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()


def test_a_projects_own_credential_comes_first(configure: Callable[..., None]) -> None:
    configure("models: [{name: llama3, provider: openai}]")
    assert first_target("llama3", (LOCAL,), (OPENAI,)) == (LOCAL, "llama3")
    assert first_target("local/any/thing", (LOCAL,), (OPENAI,)) == (LOCAL, "any/thing")


def test_yaml_comes_before_model_routes_and_an_exact_name_before_a_prefix(
    configure: Callable[..., None],
) -> None:
    configure(
        "models: [{name: openai/odd, provider: anthropic}]",
        ai_gateway_model_routes="openai/odd:http://a/v1,llama:http://b/v1",
    )
    assert first_target("openai/odd", (), (OPENAI, ANTHROPIC)) == (ANTHROPIC, "openai/odd")
    account, name = first_target("llama", (), (OPENAI, *accounts.load_operator_accounts()))
    assert (account.base_url, account.provider.slug, name, account.trusted) == (
        "http://b/v1",
        "compatible",
        "llama",
        True,
    )


def test_bundled_catalog_resolves_the_provider(configure: Callable[..., None]) -> None:
    assert first_target("gpt-4o-mini", (), (OPENAI, ANTHROPIC)) == (OPENAI, "gpt-4o-mini")
    assert first_target("claude-sonnet-4-5", (), (OPENAI, ANTHROPIC))[0] is ANTHROPIC


def test_unknown_names_go_to_the_default_provider_or_the_only_account(configure: Callable[..., None]) -> None:
    assert first_target("homemade", (), (OPENAI,)) == (OPENAI, "homemade")
    with pytest.raises(GatewayError, match="does not exist"):
        first_target("homemade", (), (OPENAI, ANTHROPIC))
    configure("default_provider: anthropic")
    assert first_target("homemade", (), (OPENAI, ANTHROPIC))[0] is ANTHROPIC


def test_a_provider_without_a_credential_is_named(configure: Callable[..., None]) -> None:
    for model in ("gemini/pro", "claude"):
        configure("models: [{name: claude, provider: gemini}]")
        with pytest.raises(GatewayError, match="needs a credential for Google Gemini"):
            first_target(model, (), (OPENAI,))


def test_routes_are_split_at_the_last_http() -> None:
    assert parse_model_urls("a:b:http://h:1/v1, gpt-4:https://api.openai.com/v1/") == {
        "a:b": "http://h:1/v1",
        "gpt-4": "https://api.openai.com/v1",
    }
    for wrong in ("a", "a:ftp://x", ":http://x"):
        with pytest.raises(ConfigError):
            parse_model_urls(wrong)


@pytest.mark.parametrize(
    ("text", "value"), [("5m", 300), ("1m30s", 90), ("250ms", 0.25), (7, 7), ("1h", 3600)]
)
def test_durations(text: str | int, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    "yaml",
    [
        "models: 5",
        "models: [{name: a}]",
        "models: [{name: a, provider: nobody}]",
        "timeout: soon",
        "default_provider: x",
        "{",
    ],
)
def test_invalid_config_file_is_reported(configure: Callable[..., None], yaml: str) -> None:
    configure(yaml)
    with pytest.raises(ConfigError):
        config_file.load()


def test_a_route_sets_the_format_for_clients_of_other_formats(configure: Callable[..., None]) -> None:
    configure("models: [{name: deep, provider: openai, api: responses}, {name: plain, provider: openai}]")
    deep, plain = (first_target(name, (), (OPENAI,))[0] for name in ("deep", "plain"))
    assert [
        deep.format_for(client) for client in ("anthropic", "gemini", "openai_responses", "openai_chat")
    ] == [
        "openai_responses",
        "openai_responses",
        "openai_responses",
        "openai_chat",
    ]
    assert plain.format_for("anthropic") == "openai_chat"


DEFAULT_FORMATS = ["openai_chat", "openai_responses", "openai_chat", "openai_chat"]


def formats_of(account: Account) -> list[str]:
    """Return the formats in which the requests of all clients are sent."""
    clients = ("openai_chat", "openai_responses", "anthropic", "gemini")
    return [account.format_for(client) for client in clients]


@pytest.mark.parametrize(
    ("variable", "model", "formats"),
    [
        ("", "", DEFAULT_FORMATS),
        ("chat", "", ["openai_chat"] * 4),
        ("", "chat", ["openai_chat"] * 4),
        ("responses", "chat", ["openai_chat"] * 4),
        ("responses", "", ["openai_chat", *["openai_responses"] * 3]),
        ("chat", "responses", ["openai_chat", *["openai_responses"] * 3]),
    ],
)
@pytest.mark.parametrize("own_url", ["", "base_url: http://127.0.0.1:1/v1"])
def test_the_operator_can_say_which_api_a_server_has(
    configure: Callable[..., None], variable: str, model: str, formats: list[str], own_url: str
) -> None:
    """The setting of a model precedes OPENAI_API, which is about the account at OPENAI_BASE_URL alone."""
    fields = ", ".join(filter(None, ("name: house", "provider: openai", model and f"api: {model}", own_url)))
    configure(f"models: [{{{fields}}}]", openai_api=variable, openai_base_url="http://127.0.0.1:1/v1")
    own = accounts.load_operator_accounts()
    house = first_target("house", (), own)[0]
    assert formats_of(house) == (formats if model or not own_url else DEFAULT_FORMATS)


def test_the_api_of_the_environment_applies_to_every_model_of_the_account(
    configure: Callable[..., None],
) -> None:
    configure(openai_api="chat", openai_base_url="http://127.0.0.1:1/v1")
    for name in ("gpt-4o-mini", "openai/qwen3", "whatever"):
        account, _ = first_target(name, (), accounts.load_operator_accounts())
        assert formats_of(account) == ["openai_chat"] * 4


def test_azure_has_the_model_in_the_url() -> None:
    azure = Account("azure", PROVIDERS["azure"], "https://acme.openai.azure.com", "key")
    url = azure.url("openai_chat", "/chat/completions", "my gpt/4")
    assert (
        url
        == "https://acme.openai.azure.com/openai/deployments/my%20gpt%2F4/chat/completions?api-version=2024-10-21"
    )
    assert PROVIDERS["azure"].auth_headers("key") == {"api-key": "key"}


def test_a_routed_model_has_the_listed_price_of_its_name(configure: Callable[..., None]) -> None:
    configure(
        """
        models:
          - {name: own, provider: compatible, model: gpt-4o, base_url: "http://127.0.0.1:1/v1"}
          - {name: gpt-4o, provider: compatible, base_url: "http://127.0.0.1:1/v1", has_listed_price: false}
        """,
        ai_gateway_model_routes="gpt-4:http://a/v1,llama:http://b/v1,claude-sonnet-4-6:http://c/v1",
    )
    operator = accounts.load_operator_accounts()

    def price_of(model: str) -> Price | None:
        return resolution(model, (), operator).targets[0].price

    assert price_of("gpt-4") == bundled_price("openai", "gpt-4")
    assert price_of("claude-sonnet-4-6") == bundled_price("anthropic", "claude-sonnet-4-6")
    assert price_of("own") == bundled_price("openai", "gpt-4o")
    assert (price_of("llama"), price_of("gpt-4o")) == (None, None)


def test_the_number_of_models_is_that_of_the_names_that_can_be_called(
    configure: Callable[..., None],
) -> None:
    """Count the catalog if there are no names, and the demo models if there are no accounts."""
    env = {"openai_api_key": "", "openai_base_url": "", "ai_gateway_upstream": ""}
    configure(**env)
    assert model_counter.count() == 2
    configure(**env | {"openai_api_key": "sk"})
    assert model_counter.count() > 20
    configure(
        "models: [{name: a, provider: openai}, {name: b, provider: openai}, {name: c, provider: groq}]",
        **env | {"openai_api_key": "sk", "ai_gateway_model_routes": "llama:http://b/v1"},
    )
    assert model_counter.count() == 3

"""Routes and accounts of the operator's config file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from structlog.testing import capture_logs

from proxy.routing import accounts, config_file, operator_routes
from proxy.routing.config_file import ConfigError
from proxy.routing.routes.builder import build_table
from proxy.routing.routes.file_check import check_routes
from proxy.routing.targets import Target
from tests.support.operator_accounts import forget_configuration, resolution

Configure = Callable[..., None]
ACCOUNTS = """
accounts:
  - name: lab
    base_url: http://127.0.0.1:8000/v1
    api_key: sk-lab
    formats: [openai_chat, anthropic]
    models: [qwen3]
    quirks: {max_tokens_field: max_completion_tokens, unsupported: [n, user]}
  - name: eu
    provider: azure
    base_url: https://acme.openai.azure.com
    api_key: $EU_KEY
    api_version: 2025-04-01-preview
  - {name: spare, provider: openai, api_key: sk-spare}
"""


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Configure]:
    before = settings.ENV

    def apply(yaml: str, **variables: object) -> None:
        path = tmp_path / "routes.yaml"
        path.write_text(yaml)
        given = {"openai_api_key": "", "openai_base_url": "", "ai_gateway_config": path, **variables}
        settings.ENV = before.model_copy(update=given)
        forget_configuration()

    monkeypatch.setenv("EU_KEY", "azure-key")
    yield apply
    settings.ENV = before
    forget_configuration()


def targets(model: str) -> tuple[Target, ...]:
    return resolution(model, (), accounts.load_operator_accounts()).targets


def test_an_account_can_say_as_much_as_the_catalog(configure: Configure) -> None:
    configure(ACCOUNTS)
    lab, eu = targets("qwen3")[0].account, targets("eu/my-gpt")[0].account
    assert (lab.slug, lab.secret, lab.trusted, lab.formats) == (
        "lab",
        "sk-lab",
        True,
        ("openai_chat", "anthropic"),
    )
    assert lab.url("anthropic", "/v1/messages", "") == "http://127.0.0.1:8000/v1/messages"
    assert lab.url("openai_chat", "/chat/completions", "") == "http://127.0.0.1:8000/v1/chat/completions"
    assert lab.provider.quirks.max_tokens_field == "max_completion_tokens"
    assert lab.provider.quirks.unsupported == {"n", "user"}
    assert eu.secret == "azure-key"
    assert eu.url("openai_chat", "/chat/completions", "my-gpt") == (
        "https://acme.openai.azure.com/openai/deployments/my-gpt/chat/completions"
        "?api-version=2025-04-01-preview"
    )


def test_accounts_of_one_provider_are_used_in_turn(configure: Configure) -> None:
    configure(ACCOUNTS, openai_api_key="sk-first")
    table = build_table((), (), accounts.load_operator_accounts(), config_file.load())
    pool = table.find("gpt-6-luna", None).targets[0].pool
    keys = {tuple(account.secret for account in pool.next_order()) for _ in range(4)}
    assert keys == {("sk-first", "sk-spare"), ("sk-spare", "sk-first")}


def test_an_account_alone_may_have_no_key_of_its_own(configure: Configure) -> None:
    configure("accounts: [{name: main, provider: openai}]", openai_api_key="sk-first")
    assert targets("main/gpt-6-luna")[0].account.secret == "sk-first"


def test_the_start_logs_accounts_and_routes_without_keys(configure: Configure) -> None:
    configure(ACCOUNTS + ROUTE)
    with capture_logs() as logs:
        operator_routes.log_routes()
    accounts_logged = {log["account"]: log for log in logs if "account" in log}
    assert (accounts_logged["lab"]["host"], accounts_logged["lab"]["key"]) == (
        "http://127.0.0.1:8000",
        "AI_GATEWAY_CONFIG",
    )
    assert accounts_logged["eu"]["key"] == "EU_KEY"
    smart = next(log for log in logs if log.get("model") == "smart")
    assert smart["targets"] == ["lab/qwen3", "spare/gpt-6-luna"]
    assert "sk-lab" not in str(logs) and "azure-key" not in str(logs)


ROUTE = """
models:
  - name: smart
    strategy: ordered
    targets:
      - {provider: lab, model: qwen3, weight: 3, timeout: 30s}
      - {provider: spare, model: gpt-6-luna}
    fallbacks: [demo/chat, plain]
    retry_attempts: 1
    retry_delay_ms: 20
    retries_context_length: true
  - {name: plain, provider: spare, model: gpt-6-sol}
"""


def test_a_model_of_the_file_can_have_targets_and_fallbacks(configure: Configure) -> None:
    configure(ACCOUNTS + ROUTE)
    check_routes(config_file.load())
    found = resolution("smart", (), accounts.load_operator_accounts())
    assert [(target.account.slug, target.model, target.timeout_s) for target in found.targets] == [
        ("lab", "qwen3", 30),
        ("spare", "gpt-6-luna", None),
        ("demo", "demo/chat", None),
        ("spare", "gpt-6-sol", None),
    ]
    assert (found.retry_attempts, found.retry_delay_ms, found.retries_context_length) == (1, 20, True)


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("accounts: [{name: a, provider: nobody}]", "unknown provider 'nobody'"),
        ("accounts: [{name: a}]", "needs a base_url"),
        ("accounts: [{name: a, base_url: 'ftp://x'}]", "not a valid http or https address"),
        ("accounts: [{name: groq, provider: openai}]", "cannot be the name"),
        ("accounts: [{name: a/b, provider: openai}]", "cannot be the name"),
        ("accounts: [{name: a, provider: openai, colour: red}]", "line 1: an account: colour is not known"),
        ("accounts: [{name: a, provider: openai, quirks: {colour: red}}]", "unknown quirks: colour"),
        ("accounts: [{name: a, provider: openai, quirks: {tool_call_id_length: long}}]", "Expected `int`"),
        ("accounts: [{name: a, provider: openai, formats: [morse]}]", "Invalid enum value 'morse'"),
        ("accounts: [{name: a, provider: openai, api_key: $NOT_SET}]", "NOT_SET, which is not set"),
        ("accounts: [{name: a, provider: openai}, {name: a, provider: groq}]", "several accounts"),
        (
            "models: [{name: a, provder: openai}]",
            "line 1: a model: provder is not known. Did you mean provider?",
        ),
        ("modles: []", "line 1: the file: modles is not known. Did you mean models?"),
        ("version: 1\nmodel_urls: {}", "line 2: the file: model_urls is not known"),
        (
            "models:\n  - name: a\n    targets:\n      - {provider: openai, wieght: 2}",
            "line 4: a target: wieght is not known. Did you mean weight?",
        ),
        (
            "models: [{name: a, provider: openai, rule: {capability: [tools]}}]",
            "a rule: capability is not known. Did you mean capabilities?",
        ),
        ("models: [{name: a, provider: openai}, {name: a, provider: groq}]", "several models are named 'a'"),
        (
            "models: [{name: a, provider: openai, rule: {capabilities: [tools]}},"
            " {name: a, provider: groq, rule: {capabilities: [tools]}}]",
            "several models are named 'a' and have the same rule",
        ),
        (
            "models: [{name: a, provider: openai, base_url: 'http://h/v1'}, {name: a, provider: groq,"
            " rule: {capabilities: [tools]}}]",
            "one of them has a base_url",
        ),
        (
            "models: [{name: a, provider: openai, rule: {min_input_tokens: 9, max_input_tokens: 8}}]",
            "min_input_tokens is more than max_input_tokens",
        ),
        ("models: [{name: a, provider: openai, rule: {headers: {x-ä: b}}}]", "not the name of a header"),
        ("models: [{name: a}]", "either a provider or targets"),
        ("models: [{name: a, base_url: 'http://h/v1', targets: [{provider: openai}]}]", "needs a provider"),
        ("models: [{name: a, provider: openai, targets: [{provider: openai}]}]", "either a provider"),
        ("models: [{name: a, targets: [{provider: nobody}]}]", "unknown provider 'nobody'"),
        ("models: [{name: a, targets: [{provider: openai, timeout: soon}]}]", "not a duration"),
        ("models: [{name: a, targets: [{provider: openai, weight: 0}]}]", ">= 1"),
        ("models: [{name: a, targets: [{provider: openai}], strategy: fastest}]", "Invalid enum value"),
        ("models: [{name: a, provider: openai, fallbacks: [b]}]", "The fallback b cannot be used"),
        ("models: [{name: a, provider: openai, fallbacks: [a]}]", "loop: a → a"),
        (
            "models: [{name: a, provider: openai, fallbacks: [b]},"
            " {name: b, provider: openai, fallbacks: [a]}]",
            "loop: a → b → a",
        ),
        (
            "models: [{name: a, targets: [{provider: openai, model: text-embedding-3-small},"
            " {provider: openai, model: gpt-6-luna}]}]",
            "mixes embedding models",
        ),
        (
            "models: [{name: a, targets: [{provider: anthropic, model: my-embed},"
            " {provider: openai, model: text-embedding-3-small}]}]",
            "Anthropic has no embeddings",
        ),
    ],
)
def test_a_file_that_cannot_work_is_refused_with_the_reason(
    configure: Configure, yaml: str, reason: str
) -> None:
    configure(yaml)
    with pytest.raises(ConfigError) as error:
        check_routes(config_file.load())
    assert reason in str(error.value) and "routes.yaml" in str(error.value)


def test_all_unknown_names_are_reported_at_once(configure: Configure) -> None:
    configure("modles: []\nmodels:\n  - {name: a, provider: openai, mdel: b}\n")
    with pytest.raises(ConfigError) as error:
        config_file.load()
    assert [line.rpartition("routes.yaml: ")[2][:7] for line in str(error.value).splitlines()] == [
        "line 1:",
        "line 3:",
    ]


def test_all_values_that_cannot_work_are_reported_at_once(configure: Configure) -> None:
    configure(
        "timeout: soon\naccounts: [{name: a, provider: openai, base_url: 'ftp://x'}]\n"
        "models: [{name: b, provider: nobody}, {name: c, provider: openai, send_operator_key: true}]\n"
    )
    with pytest.raises(ConfigError) as error:
        config_file.load()
    problems = str(error.value).splitlines()
    assert len(problems) == 4
    for problem, part in zip(problems, ("'nobody'", "timeout", "'a'", "send_operator_key"), strict=True):
        assert part in problem


def test_a_model_without_a_rule_is_tried_after_those_of_its_name(configure: Configure) -> None:
    configure(
        "models:\n"
        "  - {name: a, provider: openai, model: other}\n"
        "  - {name: a, provider: openai, model: red, rule: {headers: {x-team: red}}}\n"
        "  - {name: a, provider: openai, model: blue, rule: {headers: {X-Team: blue}}}\n",
        openai_api_key="sk-operator",
    )
    config = config_file.load()
    check_routes(config)
    table = build_table((), accounts.load_operator_accounts(), (), config)
    served = [route.targets[0].model for route in table.routes["a"]]
    assert served == ["red", "blue", "other"]

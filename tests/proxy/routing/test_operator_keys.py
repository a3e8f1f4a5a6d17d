"""The operator's key is sent only to its provider, the default upstream, and URLs of the operator."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from django.conf import settings
from structlog.testing import LogCapture

from proxy.errors import GatewayError
from proxy.routing import accounts, config_file, operator_routes
from proxy.routing.config_file import ConfigError
from tests.support.gateway_server import GatewayProcess
from tests.support.operator_accounts import first_target
from tests.support.upstream_server import LocalUpstream

KEY = "sk-operator-0123456789"
Configure = Callable[..., None]


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Configure]:
    before = settings.ENV

    def apply(routes: str = "", yaml: str = "version: 1", **variables: object) -> None:
        path = tmp_path / "routes.yaml"
        path.write_text(yaml)
        given = {
            "openai_api_key": KEY,
            "openai_base_url": "",
            "ai_gateway_config": path,
            "ai_gateway_model_routes": routes,
            **variables,
        }
        settings.ENV = before.model_copy(update=given)
        config_file.load.cache_clear()
        accounts.load_operator_accounts.cache_clear()

    yield apply
    settings.ENV = before
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()


def secret_of(model: str) -> str | None:
    account, _ = first_target(model, (), accounts.load_operator_accounts())
    return account.secret


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8080/v1",
        "https://llm.example/v1",
        "https://api.openai.com.example/v1",
        "https://eu.api.openai.com/v1",
        "https://openai.com/v1",
        "https://api.openai.com@llm.example/v1",
        "https://api.openai.com:443@llm.example/v1",
        "https://user:word@api.openai.com/v1",
        "https://api.openai.com./v1",
        "https://api.openai.com:8443/v1",
        "http://api.openai.com/v1",
        "http://api.openai.com:443/v1",
        "https://llm.example/https://api.openai.com/v1",
        "https://llm.example/?api.openai.com",
        "https://llm.example#api.openai.com",
        "https://llm.example\\@api.openai.com/v1",
    ],
)
def test_a_route_to_another_host_receives_no_key(configure: Configure, address: str) -> None:
    try:
        configure(f"llama:{address}")
        assert secret_of("llama") == ""
    except ConfigError:
        # A URL that the client cannot parse stops the start, so that no key is sent.
        assert "\\" in address


@pytest.mark.parametrize(
    "address",
    [
        "https://api.openai.com/v1",
        "https://API.OpenAI.com/v1/",
        "https://api.openai.com:443/v2",
        "https://api.openai.com",
    ],
)
def test_a_route_to_the_providers_own_host_receives_its_key(configure: Configure, address: str) -> None:
    configure(f"mine:{address}")
    assert secret_of("mine") == KEY


@pytest.mark.parametrize("variable", ["openai_base_url", "ai_gateway_upstream"])
def test_a_route_to_the_default_upstreams_host_receives_its_key(configure: Configure, variable: str) -> None:
    routes = "a:http://llm.example:8000/other/v1,b:http://llm.example:8001/v1,c:https://llm.example:8000/v1,d:http://LLM.example:8000"
    configure(routes, **{variable: "http://llm.example:8000/v1"})
    assert [secret_of(model) for model in "abcd"] == [KEY, "", "", KEY]


def test_the_operator_may_send_the_key_to_a_single_route(configure: Configure) -> None:
    configure("a:http://llm.example/v1,b:http://llm.example/v1", ai_gateway_send_operator_key=("b",))
    assert [secret_of(model) for model in "ab"] == ["", KEY]


def test_the_setting_for_a_model_without_a_route_is_an_error(configure: Configure) -> None:
    configure("a:http://llm.example/v1", ai_gateway_send_operator_key=("b",))
    with pytest.raises(ConfigError, match="no model b"):
        config_file.load()


YAML = """
models:
  - {name: plain, provider: compatible, base_url: "http://llm.example/v1"}
  - {name: keyed, provider: compatible, base_url: "http://llm.example/v1", send_operator_key: true}
  - {name: claude, provider: anthropic, base_url: "https://proxy.example"}
  - {name: sonnet, provider: anthropic, base_url: "https://api.anthropic.com"}
  - {name: hosted, provider: openai}
"""


def test_a_yaml_route_with_a_url_follows_the_same_rule(configure: Configure) -> None:
    configure("plain:http://later.example/v1", YAML, anthropic_api_key="sk-ant-key")
    secrets = {model: secret_of(model) for model in ("plain", "keyed", "claude", "sonnet", "hosted")}
    assert secrets == {"plain": "", "keyed": KEY, "claude": "", "sonnet": "sk-ant-key", "hosted": KEY}
    assert first_target("plain", (), accounts.load_operator_accounts())[0].base_url == "http://llm.example/v1"


def test_a_yaml_route_serves_only_projects_with_operator_credentials(
    configure: Configure,
) -> None:
    configure("", YAML)
    with pytest.raises(GatewayError, match="does not exist"):
        first_target("keyed", (), ())


@pytest.mark.parametrize(
    "model",
    [
        '{name: a, provider: compatible, base_url: "llm.example"}',
        '{name: a, provider: compatible, base_url: "ftp://user:word@llm.example"}',
        "{name: a, provider: openai, send_operator_key: true}",
        '{name: a, provider: demo, base_url: "http://llm.example"}',
    ],
)
def test_a_route_that_cannot_work_stops_the_start(configure: Configure, model: str) -> None:
    configure("", f"models: [{model}]")
    with pytest.raises(ConfigError) as error:
        config_file.load()
    assert "word" not in str(error.value)


def test_a_default_upstream_that_is_not_a_url_stops_the_start(configure: Configure) -> None:
    configure("", openai_base_url="localhost:8000")
    with pytest.raises(ConfigError, match="openai: the base URL"):
        config_file.load()


def test_the_start_logs_each_route_with_its_host_and_the_name_of_its_key(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("a:http://user:word@llm.example:8000/v1,b:https://api.openai.com/v1", YAML)
    captured = LogCapture()
    # A logger that has been used is cached, so its output would not be captured.
    monkeypatch.setattr(operator_routes, "log", structlog.wrap_logger(None, processors=[captured]))
    operator_routes.log_routes()
    lines = captured.entries
    routes = {
        line["model"]: (line.get("host"), line.get("key"))
        for line in lines
        if line["event"] == "operator_route"
    }
    assert routes == {
        "a": ("http://llm.example:8000", None),
        "b": ("https://api.openai.com", "OPENAI_API_KEY"),
        "plain": ("http://llm.example", None),
        "keyed": ("http://llm.example", "OPENAI_API_KEY"),
        "claude": ("https://proxy.example", None),
        "sonnet": ("https://api.anthropic.com", None),
        "hosted": ("https://api.openai.com", "OPENAI_API_KEY"),
    }
    assert KEY not in str(lines) and "word" not in str(lines)


def test_only_a_permitted_host_is_sent_an_authorization_header(tmp_path: Path) -> None:
    upstream, data = LocalUpstream().start(), tmp_path / "data"
    data.mkdir()
    routes = f"plain:{upstream.url},keyed:{upstream.url}"
    variables = {
        "AI_GATEWAY_MODEL_ROUTES": routes,
        "AI_GATEWAY_SEND_OPERATOR_KEY": "keyed",
        "OPENAI_API_KEY": KEY,
    }
    gateway = GatewayProcess(data, **variables).start()
    try:
        token = gateway.demo_key()
        assert [gateway.post(token, model=model).status_code for model in ("plain", "keyed")] == [200, 200]
        assert [call.headers.get("authorization") for call in upstream.requests] == [None, f"Bearer {KEY}"]
        logged = {
            line["model"]: line["key"] for line in gateway.log_lines() if line["event"] == "operator_route"
        }
        assert logged == {"plain": None, "keyed": "OPENAI_API_KEY"}
        assert KEY not in gateway.output.read_text()
    finally:
        gateway.stop()
        upstream.stop()

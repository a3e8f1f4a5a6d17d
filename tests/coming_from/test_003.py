"""Statements of document 003: keys with scopes, and OpenAI's paths."""

import io
import os

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command

from keys.models import ApiKey
from proxy.providers.catalog import PROVIDERS
from tests.coming_from.conftest import Documented
from tests.support.gateway_server import ROOT

row = pytest.mark.row
MODELS = """
curl -X GET http://localhost:3000/openai/v1/models -H 'Authorization: Bearer {AI_GATEWAY_API_KEY}'
"""
"""The document does not close the last quote, so its command cannot run as it is printed."""
CHAT = """
curl -X POST http://localhost:3000/openai/v1/chat/completions \\
  -H 'Authorization: Bearer {AI_GATEWAY_API_KEY}' \\
  -d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hi"}],"a_field_of_openai":1}'
"""
EMBEDDINGS = """
curl -X POST http://localhost:3000/openai/v1/embeddings -H 'Authorization: Bearer {AI_GATEWAY_API_KEY}' \\
  -d '{"model":"text-embedding-3-small","input":"Hi"}'
"""
COMMANDS = {
    "get:/openai/v1/models": MODELS,
    "post:/openai/v1/chat/completions": CHAT,
    "post:/openai/v1/embeddings": EMBEDDINGS,
}


def generate_key(*arguments: str) -> str:
    """Return the key that the command prints."""
    printed = io.StringIO()
    call_command("create_api_key", *arguments, stdout=printed)
    return printed.getvalue().splitlines()[-1]


@row("003-01")
def test_the_base_url_of_openai() -> None:
    assert PROVIDERS["openai"].base_url == "https://api.openai.com/v1"


@row("003-02", "003-10", "003-11")
def test_models(documented: Documented) -> None:
    reply = documented.curl(MODELS)
    names = {model["id"] for model in reply.json["data"]}
    assert (reply.status, reply.json["object"]) == (200, "list") and {"gpt-4", "llama"} <= names


@row("003-03", "003-08", "003-09")
def test_chat_completions(documented: Documented) -> None:
    """The command has no content type, and a field that only the provider knows passes."""
    reply = documented.curl(CHAT)
    assert (reply.status, reply.json["object"]) == (200, "chat.completion")
    assert b'"a_field_of_openai":1' in documented.upstream.requests[0].body


@row("003-04")
def test_embeddings(documented: Documented) -> None:
    reply = documented.curl(EMBEDDINGS)
    assert (reply.status, reply.json["data"][0]["embedding"]) == (200, [0.5, -0.5])


@row("003-05")
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_paths_without_the_prefix(documented: Documented, command: str) -> None:
    assert documented.curl(command.replace("/openai/v1", "/v1")).status == 200


@row("003-06")
def test_a_key_of_the_gateway_is_required(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_auth": "required"}))
    without_key = CHAT.replace("-H 'Authorization: Bearer {AI_GATEWAY_API_KEY}'", "")
    assert documented.curl(without_key).status == 401
    assert documented.curl(CHAT, key="sk-of-a-provider-0123456789").status == 401
    assert documented.curl(CHAT).status == 200


@row("003-07")
def test_the_gateway_holds_the_keys_of_providers(documented: Documented) -> None:
    documented.curl(CHAT)
    assert documented.upstream.requests[0].headers["authorization"] == "Bearer sk-operator"


@row("003-19", "003-26", "003-28")
@pytest.mark.parametrize("scopes", ["all", "ALL"])
def test_all_covers_the_three_operations(documented: Documented, scopes: str) -> None:
    key = generate_key("john.doe", scopes)
    assert [documented.curl(command, key).status for command in COMMANDS.values()] == [200, 200, 200]


@row("003-20", "003-23", "003-24", "003-25", "003-28")
@pytest.mark.parametrize("scope", COMMANDS)
def test_a_scope_covers_only_its_operation(documented: Documented, scope: str) -> None:
    key = generate_key("john.doe", scope)
    allowed = [name for name, command in COMMANDS.items() if documented.curl(command, key).status == 200]
    assert allowed == [scope]


@row("003-21", "003-22")
def test_a_system_with_two_scopes(documented: Documented) -> None:
    key = generate_key("sys-42", "get:/openai/v1/models", "post:/openai/v1/embeddings")
    assert [documented.curl(command, key).status for command in COMMANDS.values()] == [200, 403, 200]
    assert ApiKey.objects.filter(label="sys-42").count() == 1


@row("003-29")
def test_an_unknown_scope_is_refused(documented: Documented) -> None:
    with pytest.raises(CommandError, match="post:/openai/v1/embeddings"):
        generate_key("john.doe", "nonsense")


@row("000-09", "003-14", "003-17")
@pytest.mark.parametrize("name", ["server", "dev", "test"])
def test_scripts_run_from_any_folder(name: str) -> None:
    script = ROOT / "script" / name
    assert os.access(script, os.X_OK)
    assert '$(dirname "$0")/..' in script.read_text()


@row("002-10", "003-13", "004-13")
def test_the_example_of_the_env_file() -> None:
    example = (ROOT / ".env.example").read_text()
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        assert f"# {variable}=" in example


@row("002-68", "004-82")
def test_the_license_is_there() -> None:
    assert "License" in (ROOT / "LICENSE").read_text()

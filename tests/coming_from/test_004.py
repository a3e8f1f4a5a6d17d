"""Statements of document 004: three formats, metrics, logs and errors."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from django.conf import settings

from proxy.pipeline import route, settle
from proxy.routing import config_file
from tests.coming_from.conftest import PROXY_CONFIG, Documented
from tests.support.operator_accounts import forget_configuration
from tests.support.upstream_server import Handler, completion

row = pytest.mark.row
OPENAI_TO_GEMINI = """
curl -X POST http://localhost:8080/openai/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "gemini-2.0-flash-exp",
    "messages": [
      {"role": "user", "content": "Hello!"}
    ]
  }'
"""
ANTHROPIC = """
curl -X POST http://localhost:8080/anthropic/v1/messages \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "claude-3-5-sonnet-20241022",
    "messages": [
      {"role": "user", "content": "Hello!"}
    ],
    "max_tokens": 1024
  }'
"""
GEMINI = """
curl -X POST http://localhost:8080/gemini/v1/models/gemini-1.5-pro:generateContent \\
  -H "Content-Type: application/json" \\
  -d '{
    "contents": [
      {
        "role": "user",
        "parts": [{"text": "Hello!"}]
      }
    ]
  }'
"""
STREAM = """
curl -X POST http://localhost:8080/openai/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "gpt-4",
    "messages": [{"role": "user", "content": "Tell me a story"}],
    "stream": true
  }'
"""
OPENAI = STREAM.replace('"stream": true', '"stream": false')
HEALTH = "curl http://localhost:8080/health"
METRICS = "curl http://localhost:8080/metrics"
WITH_ID = OPENAI.replace("curl ", 'curl -H "X-Request-ID: my-custom-id" ')


@row("004-01", "004-02", "004-35", "004-37", "004-16")
def test_openai_format_to_gemini(documented: Documented) -> None:
    reply = documented.curl(OPENAI_TO_GEMINI)
    assert reply.json["choices"][0]["message"]["content"] == "Hello!"
    sent = documented.upstream.requests[0]
    assert sent.path.endswith("gemini-2.0-flash-exp:generateContent")
    assert sent.headers["x-goog-api-key"] == "AIza-your-gemini-key"


@row("004-01", "004-15", "004-35", "004-38")
def test_anthropic_format_to_anthropic(documented: Documented) -> None:
    reply = documented.curl(ANTHROPIC)
    assert (reply.json["type"], reply.json["content"][0]["text"]) == ("message", "Hello!")
    assert documented.upstream.requests[0].headers["x-api-key"] == "sk-ant-your-anthropic-key"


@row("004-01", "004-35", "004-39", "004-40", "004-44")
@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_gemini_format_to_gemini(documented: Documented, version: str) -> None:
    reply = documented.curl(GEMINI.replace("/gemini/v1/", f"/gemini/{version}/"))
    assert reply.json["candidates"][0]["content"]["parts"][0]["text"] == "Hello!"
    assert b"Hello!" in documented.upstream.requests[0].body


@row("004-14", "004-36")
def test_openai_format_to_openai(documented: Documented) -> None:
    assert documented.curl(OPENAI).json["choices"][0]["message"]["content"] == "Hello there"
    assert documented.upstream.requests[0].headers["authorization"] == "Bearer sk-operator"


@row("004-09", "004-41")
def test_a_stream_in_openais_format(documented: Documented) -> None:
    reply = documented.curl(STREAM)
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.text.rstrip().endswith("data: [DONE]")


@row("004-09", "004-42")
def test_a_stream_in_anthropics_format(documented: Documented) -> None:
    reply = documented.curl(ANTHROPIC.replace('"max_tokens"', '"stream": true, "max_tokens"'))
    assert [reply.events[0]["type"], reply.events[-1]["type"]] == ["message_start", "message_stop"]


@row("004-09", "004-43")
def test_a_stream_in_geminis_format(documented: Documented) -> None:
    reply = documented.curl(GEMINI.replace('"contents"', '"stream": true, "contents"'))
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.events[0]["candidates"][0]["content"]["parts"][0]["text"] == "Hello!"
    assert documented.upstream.requests[0].path.endswith(":streamGenerateContent")


@row("004-03", "004-21", "004-22", "004-23", "004-81")
def test_the_yaml_file_decides_the_provider(documented: Documented) -> None:
    providers = {
        model: documented.curl(OPENAI.replace("gpt-4", model)).headers["x-gateway-provider"]
        for model in ("gpt-4", "claude-3-5-sonnet-20241022", "gemini-2.0-flash-exp")
    }
    assert list(providers.values()) == ["openai", "anthropic", "gemini"]


@row("004-08", "004-45", "004-46", "004-47", "004-07")
def test_the_health_check(documented: Documented) -> None:
    """`models` is the number of configured names: three in the file, and one in AI_GATEWAY_MODEL_ROUTES."""
    reply = documented.curl(HEALTH)
    assert reply.json.keys() == {"status", "models", "timestamp"}
    assert (reply.json["status"], reply.json["models"]) == ("healthy", 4)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", reply.json["timestamp"])
    assert reply.headers["x-request-id"]


@row("004-05", "004-48", "004-49", "004-50", "004-51", "004-52", "004-54")
def test_metrics(documented: Documented) -> None:
    documented.curl(OPENAI)
    documented.curl(OPENAI.replace('"gpt-4"', '"llama"'))
    documented.upstream.handler = failing(500)
    documented.curl(OPENAI)
    metrics = documented.curl(METRICS).text
    for expected in (
        'proxy_requests_total{format="openai",model="gpt-4",provider="openai",status="200"}',
        'proxy_requests_total{format="openai",model="llama",provider="compatible",status="200"}',
        'proxy_request_duration_seconds_bucket{format="openai",le="0.5",model="gpt-4",provider="openai"}',
        'proxy_errors_total{error_type="server_error",format="openai",model="gpt-4",provider="openai"}',
        'proxy_active_requests{format="openai",provider="openai"}',
    ):
        assert expected in metrics


@row("004-06", "004-55", "004-56", "004-57", "004-58", "004-59", "004-60", "004-61")
def test_the_log_line_of_a_request(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(
        settle, "log", structlog.wrap_logger(structlog.BytesLogger(output), cache_logger_on_first_use=False)
    )
    assert documented.curl(WITH_ID).headers["X-Request-ID"] == "my-custom-id"
    entry = json.loads(output.getvalue())
    assert entry["request_id"] == "my-custom-id"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["timestamp"])
    assert isinstance(entry["duration_ms"], float)
    assert entry["message"] == "request completed successfully" and entry["level"] == "info"
    documented_fields = ("status_code", "format", "model", "provider", "streaming")
    assert [entry[name] for name in documented_fields] == [200, "openai", "gpt-4", "openai", False]


@row("004-07", "004-62")
def test_an_id_is_generated(documented: Documented) -> None:
    assert re.fullmatch(r"req_[0-9a-f]{32}", documented.curl(OPENAI).headers["x-request-id"])


def failing(status: int) -> Handler:
    async def fail(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response({"error": {"message": "It failed."}}, status=status)

    return fail


@row("004-63")
def test_the_body_of_an_error(documented: Documented) -> None:
    reply = documented.curl(WITH_ID.replace("[{", "{").replace("}]", "}"))
    error = reply.json["error"]
    assert {"message", "type", "request_id"} <= error.keys() and error["request_id"] == "my-custom-id"


@pytest.mark.parametrize(
    ("command", "status", "kind"),
    [
        pytest.param(OPENAI.replace("gpt-4", "groq/no-such"), 200, "unknown_model", marks=row("004-64")),
        pytest.param(OPENAI, 401, "server_error", marks=row("004-65")),
        pytest.param(OPENAI, 429, "rate_limit", marks=row("004-66")),
        pytest.param(OPENAI, 504, "timeout", marks=row("004-67")),
        pytest.param(OPENAI.replace('"messages"', '"massages"'), 200, "invalid_request", marks=row("004-68")),
        pytest.param(OPENAI, 500, "server_error", marks=row("004-69")),
        pytest.param(OPENAI.replace("gpt-4", "llama"), 0, "network", marks=row("004-70")),
    ],
)
def test_the_types_of_errors(
    documented: Documented, monkeypatch: pytest.MonkeyPatch, command: str, status: int, kind: str
) -> None:
    """The type is in the header. The body of an upstream's error is not changed.

    If the upstream rejects the operator's key, the caller gets no rejection of its own key.
    """
    if status == 0:
        route_to_closed_port(monkeypatch)
    elif status != 200:
        documented.upstream.handler = failing(status)
    reply = documented.curl(command)
    assert reply.status >= 400 and reply.headers["x-gateway-error-type"] == kind


@row("004-65")
def test_an_invalid_key_is_an_auth_error(documented: Documented) -> None:
    command = OPENAI.replace("curl ", 'curl -H "Authorization: Bearer sk-gw_0123456789ab_wrong" ')
    reply = documented.curl(command)
    assert (reply.status, reply.json["error"]["type"]) == (401, "auth")


def route_to_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    routes = "llama:http://127.0.0.1:9/v1"
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_model_routes": routes}))
    forget_configuration()


@pytest.mark.parametrize(
    ("variable", "ending", "command", "path"),
    [
        pytest.param("openai_base_url", ending, OPENAI, "/v1/chat/completions", marks=row("004-17"))
        for ending in ("", "/", "/v1", "/v1/")
    ]
    + [
        pytest.param("anthropic_base_url", ending, ANTHROPIC, "/v1/messages", marks=row("004-18"))
        for ending in ("", "/v1", "/v1/")
    ]
    + [
        pytest.param(
            "gemini_base_url",
            ending,
            GEMINI,
            "/v1beta/models/gemini-1.5-pro:generateContent",
            marks=row("004-19"),
        )
        for ending in ("", "/v1beta", "/v1beta/")
    ],
)
def test_base_urls_work_with_and_without_the_version(
    documented: Documented,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    ending: str,
    command: str,
    path: str,
) -> None:
    url = documented.upstream.url.removesuffix("/v1") + ending
    environment = settings.ENV.model_copy(update={variable: url, "ai_gateway_model_routes": ""})
    monkeypatch.setattr(settings, "ENV", environment)
    forget_configuration()
    assert documented.curl(command).status == 200
    assert documented.upstream.requests[0].path == path


@row("004-10")
def test_connections_to_a_provider_are_used_again(documented: Documented) -> None:
    peers = []

    async def note_peer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        assert request.transport is not None
        peers.append(request.transport.get_extra_info("peername"))
        return await completion(request, body)

    documented.upstream.handler = note_peer
    for _ in range(8):
        documented.curl(OPENAI)
    # On a loaded machine, single calls have opened another connection.
    assert len(set(peers)) < len(peers) == 8


@row("004-71")
def test_a_crash_of_a_handler_is_a_500(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(route, "check_model_name", crash)
        reply = documented.curl(OPENAI)
    assert (reply.status, reply.headers["x-gateway-error-type"]) == (500, "server_error")
    assert documented.curl(OPENAI).status == 200


@row("004-24", "004-25", "004-26")
def test_optional_fields_of_the_yaml_file(
    documented: Documented, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "optional.yaml"
    file.write_text(
        f'{PROXY_CONFIG}    description: "Optional"\n\ndefault_provider: "openai"\ntimeout: "5m"\n'
    )
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_config": file}))
    forget_configuration()
    assert config_file.load().timeout_s == 300
    assert documented.curl(OPENAI.replace("gpt-4", "anything-else")).headers["x-gateway-provider"] == "openai"


@row("004-78", "004-79")
@pytest.mark.parametrize("host", ["10.0.0.5:8080", "gateway.internal"])
def test_probes_may_have_any_host(documented: Documented, host: str) -> None:
    assert documented.curl(f"curl -H 'Host: {host}' http://localhost:8080/health").status == 200


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        pytest.param(("models:", "modles:"), "models", marks=row("004-27")),
        pytest.param(("claude-3-5-sonnet-20241022", "gpt-4"), "several models", marks=row("004-28")),
    ],
)
def test_mistakes_in_the_yaml_file_are_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: tuple[str, str], problem: str
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(PROXY_CONFIG.replace(*change))
    with monkeypatch.context() as patch:
        patch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_config": file}))
        forget_configuration()
        with pytest.raises(config_file.ConfigError, match=problem):
            config_file.load()
    forget_configuration()

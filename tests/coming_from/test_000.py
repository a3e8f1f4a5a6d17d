"""Statements of document 000, which document 001 repeats."""

import pytest
from django.conf import settings

from gateway_project.env import Environment
from proxy.pipeline.attempts import backoff
from proxy.providers.catalog import PROVIDERS
from proxy.routing import accounts
from tests.coming_from.conftest import Documented
from tests.support.operator_accounts import forget_configuration

row = pytest.mark.row
CURL = """
curl http://localhost:3002/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -H "Authorization: Bearer YOUR_KEY" \\
  -d '{"model":"gpt-3.5-turbo","messages":[{"role":"user","content":"Hi"}]}'
"""
STREAM = CURL.replace('"messages"', '"stream":true,"messages"')
WITHOUT_KEY = CURL.replace('  -H "Authorization: Bearer YOUR_KEY" \\\n', "")


@row("000-12", "000-30")
def test_the_quick_start(documented: Documented) -> None:
    reply = documented.curl(CURL)
    assert (reply.status, reply.json["object"]) == (200, "chat.completion")


@row("000-10", "000-18")
def test_the_operators_key_is_sent_upstream(documented: Documented) -> None:
    documented.curl(CURL)
    assert documented.upstream.requests[0].headers["authorization"] == "Bearer sk-operator"


@row("000-13")
def test_a_clients_own_key_is_forwarded(documented: Documented) -> None:
    assert documented.curl(CURL, key="sk-clientkey-0123456789").status == 200
    sent = documented.upstream.requests[0].headers["authorization"]
    assert sent == "Bearer sk-clientkey-0123456789"


@row("000-14")
def test_the_upstream_key_is_used_if_the_client_sends_none(documented: Documented) -> None:
    assert documented.curl(WITHOUT_KEY).status == 200
    assert documented.upstream.requests[0].headers["authorization"] == "Bearer sk-operator"


@row("000-01", "000-27")
def test_a_model_is_routed_to_its_own_upstream(documented: Documented) -> None:
    reply = documented.curl(CURL.replace("gpt-3.5-turbo", "llama"))
    assert (reply.status, reply.headers["x-gateway-provider"]) == (200, "compatible")
    assert documented.upstream.requests[0].path == "/v1/chat/completions"


@row("000-28")
def test_the_example_of_model_routes(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key goes to the vendor's own host, and not to the local server."""
    example = "gpt-4:https://api.openai.com/v1,llama:http://localhost:8080/v1"
    environment = settings.ENV.model_copy(
        update={"ai_gateway_model_routes": example, "ai_gateway_config": None, "openai_base_url": ""}
    )
    monkeypatch.setattr(settings, "ENV", environment)
    forget_configuration()
    routed = {account.base_url: account.secret for account in accounts.load_operator_accounts()}
    assert routed["https://api.openai.com/v1"] == "sk-operator"
    assert routed["http://localhost:8080/v1"] == ""


@row("000-16")
def test_the_default_upstream_can_be_set(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"openai_base_url": "", "ai_gateway_upstream": documented.upstream.url}
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update=variables))
    forget_configuration()
    assert documented.curl(CURL).status == 200
    assert documented.upstream.requests[0].path == "/v1/chat/completions"


@row("000-17")
def test_the_default_upstream_is_openai() -> None:
    assert PROVIDERS["openai"].base_url == "https://api.openai.com/v1"


@row("000-06", "000-31")
def test_streams_are_passed_on(documented: Documented) -> None:
    reply = documented.curl(STREAM)
    assert reply.headers["content-type"] == "text/event-stream"
    text = "".join(event["choices"][0]["delta"].get("content", "") for event in reply.events)
    assert text == "Hello there" and reply.text.rstrip().endswith("data: [DONE]")


@row("000-03", "000-37", "000-41")
def test_headers_of_a_response(documented: Documented) -> None:
    headers = documented.curl(CURL).headers
    assert headers["X-Request-Id"].startswith("req_")
    assert float(headers["X-Cost-USD"]) > 0 and float(headers["x-gateway-overhead-ms"]) > 0
    assert "x-cost-usd" not in documented.curl(STREAM).headers


@row("000-38")
def test_the_clients_request_id_is_kept(documented: Documented) -> None:
    named = CURL.replace("curl ", "curl -H 'X-Request-Id: mine-1' ")
    assert documented.curl(named).headers["x-request-id"] == "mine-1"


@row("000-02", "000-32", "000-33", "000-34", "001-37", "001-41")
def test_costs_by_key(documented: Documented) -> None:
    documented.curl(CURL)
    key = documented.project.keys.get(label="documents")
    bearer = '-H "Authorization: Bearer YOUR_KEY"'
    costs = documented.curl(f"curl http://localhost:3002/api/costs {bearer}").json
    assert costs[key.public_id] > 0
    one = documented.curl(f"curl http://localhost:3002/api/costs/{key.public_id} {bearer}").json
    assert one["costUsd"] == costs[key.public_id] and one["totalTokens"] == 120
    every = documented.curl(f'curl "http://localhost:3002/api/costs?detail=true" {bearer}').json
    assert every[key.public_id] == {name: value for name, value in one.items() if name != "key"}


@row("000-35", "000-03", "001-41")
def test_the_prompt_log(documented: Documented) -> None:
    for _ in range(2):
        documented.curl(CURL)
    bearer = '-H "Authorization: Bearer YOUR_KEY"'
    entries = documented.curl(f"curl http://localhost:3002/api/prompt-log?limit=100 {bearer}").json
    assert [entry["totalTokens"] for entry in entries] == [120, 120]
    last = documented.curl(f"curl http://localhost:3002/api/prompt-log?limit=1 {bearer}").json
    assert last == entries[:1]


@row("000-36")
def test_the_health_check(documented: Documented) -> None:
    reply = documented.curl("curl http://localhost:3002/health")
    assert (reply.status, reply.json["status"]) == (200, "healthy")


@row("000-24", "000-25")
def test_the_defaults_of_retries() -> None:
    """Each delay is random, up to a maximum that doubles."""
    defaults = {name: field.default for name, field in Environment.model_fields.items()}
    attempts, base_ms = defaults["ai_gateway_retry_attempts"], defaults["ai_gateway_retry_delay_ms"]
    assert (attempts, base_ms) == (3, 1000)
    for retries, longest_s in enumerate((1, 2, 4)):
        delays = [backoff.delay_s(base_ms, retries, None) for _ in range(200)]
        assert all(delay is not None and 0 <= delay <= longest_s for delay in delays)
        assert max(delay for delay in delays if delay is not None) > longest_s / 2

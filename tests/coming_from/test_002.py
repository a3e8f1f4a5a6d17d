"""Statements of document 002: completions in an envelope, usage and budgets."""

import shutil
import subprocess
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from billing.models import Period
from billing.pricing import bundled_price
from keys.models import ApiKey
from keys.scopes import FIRST_KEY_SCOPES
from proxy.models import Credential
from tests.coming_from.conftest import Documented
from tests.support.factories import USD

row = pytest.mark.row
CHAT = """
curl -X POST http://localhost:3007/api/v1/completions/chat \\
  -H "Authorization: Bearer YOUR_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "gpt-4o-mini",
    "messages": [
      {"role": "system", "content": "You are a helpful assistant."},
      {"role": "user", "content": "What is the capital of France?"}
    ],
    "temperature": 0.7,
    "cache": true
  }'
"""
PROJECT = """
curl -X POST http://localhost:3007/api/v1/projects \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "My App",
    "openaiKey": "sk-your-openai-key"
  }'
"""
LIMITED_KEY = """
curl -X POST http://localhost:3007/api/v1/projects/api-keys \\
  -H "Authorization: Bearer ADMIN_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "name": "Limited Key",
    "dailyBudget": 5.00,
    "monthlyBudget": 50.00
  }'
"""
EMBEDDINGS = """
curl -X POST http://localhost:3007/api/v1/completions/embeddings \\
  -H "Authorization: Bearer YOUR_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": "text-embedding-3-small",
    "input": "Hello, world!",
    "cache": true
  }'
"""
USAGE = """
curl http://localhost:3007/api/v1/usage/{report} \\
  -H "Authorization: Bearer YOUR_API_KEY"
"""
CLIENT = """
class AIGateway {
  constructor(apiKey, baseUrl = 'http://localhost:3007') {
    this.apiKey = apiKey;
    this.baseUrl = baseUrl;
  }

  async chat(messages, options = {}) {
    const response = await fetch(`${this.baseUrl}/api/v1/completions/chat`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'Authorization': `Bearer ${this.apiKey}`,
      },
      body: JSON.stringify({
        model: options.model || 'gpt-4o-mini',
        messages,
        temperature: options.temperature || 0.7,
        maxTokens: options.maxTokens,
        cache: options.cache !== false,
      }),
    });
    const data = await response.json();
    return data.data;
  }

  async embed(input, options = {}) {
    const response = await fetch(`${this.baseUrl}/api/v1/completions/embeddings`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'Authorization': `Bearer ${this.apiKey}`,
      },
      body: JSON.stringify({
        model: options.model || 'text-embedding-3-small',
        input,
        cache: options.cache !== false,
      }),
    });
    const data = await response.json();
    return data.data;
  }
}

const ai = new AIGateway(process.argv[1], process.argv[2]);

const result = await ai.chat([
  { role: 'user', content: 'Explain quantum computing in simple terms' }
]);
console.log(result.choices[0].message.content);
console.log(`Cost: $${result.cost}, Cached: ${result.cached}`);
console.log((await ai.embed('Hi')).data[0].embedding.length);
"""
"""The class of the document, with a line that calls `embed`."""


def data_of(documented: Documented, command: str) -> dict[str, Any]:
    reply = documented.curl(command)
    assert reply.status == 200 and reply.json["success"] is True, reply.text
    return dict(reply.json["data"])


@row("002-18", "002-19", "002-21", "002-28", "002-29", "002-30", "002-31", "002-32", "002-33", "002-34")
@row("002-35", "002-03")
def test_a_chat_completion(documented: Documented) -> None:
    reply = documented.curl(CHAT)
    data = reply.json["data"]
    assert reply.json["success"] is True
    assert (data["id"], data["model"]) == ("chatcmpl-1", "gpt-4o-mini")
    assert data["choices"][0]["message"] == {"role": "assistant", "content": "Hello there"}
    assert data["usage"] == {"promptTokens": 100, "completionTokens": 20, "totalTokens": 120}
    assert data["cost"] == float(reply.headers["x-cost-usd"]) > 0
    assert data["cached"] is False and isinstance(data["latencyMs"], int)


@row("002-02", "002-25", "002-34")
def test_identical_requests_are_cached(documented: Documented) -> None:
    first, second = data_of(documented, CHAT), data_of(documented, CHAT)
    assert (first["cached"], second["cached"], second["cost"]) == (False, True, 0)
    assert len(documented.upstream.requests) == 1
    assert data_of(documented, CHAT.replace('"cache": true', '"cache": false'))["cached"] is False


@row("002-22", "002-65")
def test_a_temperature_out_of_range_is_refused(documented: Documented) -> None:
    reply = documented.curl(CHAT.replace("0.7", "2.5"))
    assert (reply.status, reply.json["success"]) == (400, False)
    assert "temperature" in reply.json["error"]["message"]


@row("002-26")
@pytest.mark.parametrize(("seconds", "status"), [(59, 400), (60, 200), (86400, 200), (86401, 400)])
def test_the_ttl_has_limits(documented: Documented, seconds: int, status: int) -> None:
    command = CHAT.replace('"cache": true', f'"cache": true, "cacheTtl": {seconds}')
    assert documented.curl(command).status == status


@row("002-24", "002-27")
def test_max_tokens_and_metadata(documented: Documented) -> None:
    data_of(documented, CHAT.replace('"cache": true', '"maxTokens": 50, "metadata": {"team": "search"}'))
    sent = documented.upstream.requests[0].body
    assert b'"max_completion_tokens":50' in sent and b"metadata" not in sent


@row("002-01", "002-60")
def test_one_endpoint_for_several_vendors(documented: Documented) -> None:
    data = data_of(documented, CHAT.replace("gpt-4o-mini", "claude-3.5-sonnet"))
    assert data["choices"][0]["message"]["content"] == "Hello!"
    assert documented.upstream.requests[0].path == "/v1/messages"


@row("002-36", "002-38", "002-39", "002-40")
def test_embeddings(documented: Documented) -> None:
    first, second = data_of(documented, EMBEDDINGS), data_of(documented, EMBEDDINGS)
    assert first["data"][0]["embedding"] == [0.5, -0.5] and first["usage"]["totalTokens"] == 4
    assert (first["cached"], second["cached"]) == (False, True)


@row("002-05", "002-41")
def test_usage_statistics(documented: Documented) -> None:
    data_of(documented, CHAT)
    data = data_of(documented, USAGE.replace("{report}", "stats?days=30"))
    assert (data["totalRequests"], data["totalTokens"], data["period"]["days"]) == (1, 120, 30)
    assert data["byModel"][0]["model"] == "gpt-4o-mini"


@row("002-42")
def test_the_cost_breakdown(documented: Documented) -> None:
    cost = data_of(documented, CHAT)["cost"]
    data = data_of(documented, USAGE.replace("{report}", "costs"))
    assert data["totalCost"] == data["today"]["cost"] == cost


@row("002-04", "002-43", "002-55")
def test_budgets_of_a_key(documented: Documented) -> None:
    key = documented.project.keys.get(label="documents")
    documented.project.budgets.create(key=key, period=Period.DAY, limit_nano=5 * USD)
    documented.project.budgets.create(key=key, period=Period.MONTH, limit_nano=1)
    data = data_of(documented, USAGE.replace("{report}", "budget"))
    assert (data["daily"]["limit"], data["daily"]["remaining"]) == (5, 5)
    refused = documented.curl(CHAT)
    assert (refused.status, refused.json["error"]["code"]) == (429, "insufficient_quota")
    assert documented.upstream.requests == []


@row("002-44")
def test_usage_needs_its_scope(documented: Documented) -> None:
    _, other = ApiKey.objects.issue(documented.project, "other", scopes=["post:/openai/v1/embeddings"])
    for report in ("stats", "costs", "budget"):
        command = USAGE.replace("{report}", report)
        assert (documented.curl(command).status, documented.curl(command, other).status) == (200, 403)


@row("002-06", "000-04")
def test_rate_limit_of_a_key(documented: Documented) -> None:
    _, limited = ApiKey.objects.issue(documented.project, "limited", rpm_limit=2)
    assert [documented.curl(CHAT, limited).status for _ in range(3)] == [200, 200, 429]


@row("002-66")
@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/completions/none", "/api/none"])
def test_unknown_paths_have_the_envelope(documented: Documented, path: str) -> None:
    reply = documented.curl(f'curl http://localhost:3007{path} -H "Authorization: Bearer YOUR_API_KEY"')
    assert (reply.status, reply.json["success"]) == (404, False)


@row("002-45", "002-46", "002-47", "002-48", "002-49")
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed.")
def test_the_client_class(documented: Documented) -> None:
    done = subprocess.run(
        ["node", "--input-type=module", "-e", CLIENT, documented.key, documented.url],
        capture_output=True,
        text=True,
        check=True,
    )
    answer, accounting, length = done.stdout.splitlines()
    assert (answer, length) == ("Hello there", "2")
    assert accounting.startswith("Cost: $0.0000") and accounting.endswith("Cached: false")
    assert b'"temperature":0.7' in documented.upstream.requests[0].body


@row("002-07")
@pytest.mark.parametrize(
    ("provider", "model"),
    [
        pytest.param("openai", "gpt-4o", marks=row("002-56")),
        pytest.param("openai", "gpt-4o-mini", marks=row("002-57")),
        pytest.param("openai", "gpt-4-turbo", marks=row("002-58")),
        pytest.param("openai", "gpt-3.5-turbo", marks=row("002-59")),
        pytest.param("anthropic", "claude-3.5-sonnet", marks=row("002-60")),
        pytest.param("anthropic", "claude-3-opus", marks=row("002-61")),
        pytest.param("anthropic", "claude-3-haiku", marks=row("002-62")),
    ],
)
def test_every_model_of_the_table_has_a_price(provider: str, model: str) -> None:
    price = bundled_price(provider, model)
    assert price is not None and price.base.output > price.base.input > Decimal(0)


@row("002-63")
def test_models_are_listed_with_their_context(documented: Documented) -> None:
    command = "curl http://localhost:3007/v1/models/{model} -H 'Authorization: Bearer YOUR_API_KEY'"
    context = {
        model: documented.curl(command.replace("{model}", model)).json["context_window"]
        for model in ("gpt-4o", "gpt-4o-mini", "gpt-4-turbo", "gpt-3.5-turbo", "claude-3-opus")
    }
    assert context == {
        "gpt-4o": 128_000,
        "gpt-4o-mini": 128_000,
        "gpt-4-turbo": 128_000,
        "gpt-3.5-turbo": 16_385,
        "claude-3-opus": 200_000,
    }


@row("002-13", "002-14", "002-15", "002-16", "002-17")
def test_a_project_with_its_first_key(documented: Documented, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command has no key: the operator must let anyone create projects."""
    assert documented.curl(PROJECT).status == 401
    environment = settings.ENV.model_copy(update={"gateway_open_project_creation": True})
    monkeypatch.setattr(settings, "ENV", environment)
    reply = documented.curl(PROJECT)
    assert (reply.status, reply.json["success"], reply.json["data"]["name"]) == (201, True, "My App")
    key = reply.json["data"]["apiKey"]
    assert documented.curl(USAGE.replace("{report}", "stats"), key).status == 200
    credential = Credential.objects.get(project__name="My App")
    assert (credential.provider, credential.decrypt_secret()) == ("openai", "sk-your-openai-key")


@row("002-50", "002-51", "002-52", "002-53", "002-54")
def test_a_key_with_budgets(documented: Documented) -> None:
    _, admin = ApiKey.objects.issue(documented.project, "admin", scopes=list(FIRST_KEY_SCOPES))
    reply = documented.curl(LIMITED_KEY, admin)
    assert (reply.status, reply.json["data"]["name"]) == (201, "Limited Key")
    limits = dict(documented.project.budgets.values_list("period", "limit_nano"))
    assert limits == {Period.DAY: 5 * USD, Period.MONTH: 50 * USD}
    assert documented.curl(CHAT, reply.json["data"]["apiKey"]).status == 200

"""Server tools for clients of another format: their reservation and their charge."""

import json
from typing import Any

import httpx
import pytest
from aiohttp import web

from billing.models import Budget
from keys.models import ApiKey
from projects.models import Project
from proxy.formats.constraints.constraint import Destination
from proxy.formats.quirks import Quirks
from proxy.formats.registry import CODECS
from proxy.models import Credential
from proxy.pipeline.conversion import ConvertedRequest
from tests.proxy.formats.golden.builders import Body, anthropic_response, gemini_response
from tests.proxy.formats.golden.cells import RUNS_TOOLS, encode_body
from tests.proxy.formats.golden.request_client_tools import CLIENT_TOOLS
from tests.proxy.formats.golden.request_server_tools import COUNTERPARTS
from tests.proxy.formats.golden.stream_writers import stream_of
from tests.proxy.formats.test_fuzz import CLIENT_REQUEST_TYPES
from tests.support.converted_requests import converted_request
from tests.support.live_gateway import LiveGateway, only_record
from tests.support.upstream_server import LocalUpstream

SEARCH = COUNTERPARTS["web search with a counterpart"]
CENT = 10**7
"""The lowest fee of a search, in nano-USD."""
USES: Body = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}}


def plan(client: str, provider: str, body: Body | None, quirks: Quirks = RUNS_TOOLS) -> ConvertedRequest:
    assert body is not None
    request = CLIENT_REQUEST_TYPES[client](encode_body(body))
    return converted_request(request, client, Destination("compatible", provider, "m"), quirks)


# Reservation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "provider", "limits"),
    [
        ("anthropic", "openai_responses", {"web_search": 2}),
        ("anthropic", "gemini", {"web_search": 10}),
        ("openai_responses", "anthropic", {"web_search": 3}),
        ("gemini", "anthropic", {"web_search": 10}),
        ("openai_chat", "openai_responses", {"web_search": 10}),
    ],
)
def test_reservation_covers_the_calls_of_the_target_s_own_tool(
    client: str, provider: str, limits: dict[str, int]
) -> None:
    assert plan(client, provider, SEARCH[client]).facts.max_billable_extras == limits


@pytest.mark.parametrize("client", SEARCH)
def test_tool_that_is_left_out_costs_nothing(client: str) -> None:
    for provider in CODECS.keys() - {client}:
        assert plan(client, provider, SEARCH[client], Quirks()).facts.max_billable_extras == {}


@pytest.mark.parametrize("provider", ["openai_chat", "openai_responses", "gemini"])
def test_reservation_covers_the_schemas_of_typed_tools(provider: str) -> None:
    """The declaration of such a tool has 40 bytes, but its schema has a thousand."""
    facts = plan("anthropic", provider, CLIENT_TOOLS["memory of the client"]["anthropic"]).facts
    assert facts.max_input_tokens > 1000


# Charges ------------------------------------------------------------------------------------------


def test_stream_that_ends_before_usage_has_counted_its_searches() -> None:
    stream = stream_of("anthropic", anthropic_response(USES, {"type": "text", "text": "Found."}))
    head = stream[: stream.index(b"event: message_delta")]
    meter = plan("openai_responses", "anthropic", SEARCH["openai_responses"]).meter()
    meter.feed(head)
    assert meter.usage and meter.usage.billable_extras == {"web_search": 1}


def credential(project: Project, provider: str, upstream: LocalUpstream) -> None:
    stored = Credential(
        project=project, slug="other", provider=provider, base_url=upstream.url.removesuffix("/v1")
    )
    stored.set_secret("sk-provider-secret")
    stored.save()


def respond_with(body: Body) -> Any:
    async def respond(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(body)

    return respond


def post_search(gateway: LiveGateway, token: str, model: str) -> httpx.Response:
    body = {**(SEARCH["openai_responses"] or {}), "model": model}
    return httpx.post(
        f"{gateway.url}/v1/responses", json=body, headers={"authorization": f"Bearer {token}"}, timeout=20
    )


@pytest.mark.parametrize(
    ("provider", "model", "answer"),
    [
        (
            "anthropic",
            "claude-sonnet-4-5",
            anthropic_response(
                USES, {"type": "text", "text": "Hi"}, server_tool_use={"web_search_requests": 2}
            ),
        ),
        (
            "gemini",
            "gemini-2.5-flash",
            gemini_response({"text": "Hi"}, groundingMetadata={"webSearchQueries": ["a", "b"]}),
        ),
    ],
)
def test_search_costs_the_fee_of_the_provider_that_ran_it(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    provider: str,
    model: str,
    answer: Body,
) -> None:
    credential(demo_project, provider, upstream)
    key, token = ApiKey.objects.issue(demo_project, "searcher")
    Budget.objects.create(project=demo_project, key=key, period="day", limit_nano=10**10, mode="hard")
    upstream.handler = respond_with(answer)
    response = post_search(live_gateway, token, f"other/{model}")
    assert response.status_code == 200 and "server_tool_use" not in response.text
    sent = json.loads(upstream.requests[0].body)
    assert "search" in json.dumps(sent["tools"]).lower()
    record = only_record()
    assert record.reserved_nano is not None
    assert CENT <= record.cost_nano <= record.reserved_nano


def test_tools_that_are_left_out_are_named_to_the_client(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    body = {**(SEARCH["anthropic"] or {}), "model": "gpt-4o-mini"}
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{live_gateway.url}/v1/messages", json=body, headers=headers, timeout=20)
    assert (response.status_code, response.headers["x-gateway-dropped"]) == (200, "tools.web_search")
    assert "tools" not in json.loads(upstream.requests[0].body)


def test_list_of_left_out_tools_fits_into_a_header(
    live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> None:
    tools = [{"type": f"tool_{number}", "name": "n"} for number in range(2000)]
    body = {**(SEARCH["anthropic"] or {}), "model": "gpt-4o-mini", "tools": tools}
    headers = {"authorization": f"Bearer {token}"}
    response = httpx.post(f"{live_gateway.url}/v1/messages", json=body, headers=headers, timeout=20)
    dropped = response.headers["x-gateway-dropped"]
    assert dropped.startswith("tools.tool_0, tools.tool_1") and dropped.endswith("...")
    assert len(dropped) < 4096

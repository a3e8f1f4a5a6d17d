"""Fixtures of the end-to-end tests: gateways as processes, and clients that are the official SDKs."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from aiohttp import web
from django.conf import settings
from google import genai
from msgspec.structs import replace

from billing.models import PriceOverride, Webhook
from keys.models import ApiKey
from projects.models import Invitation, Project, Role
from proxy.formats.neutral import (
    Choice,
    Response,
    Thinking,
)
from proxy.formats.registry import CODECS
from proxy.models import Credential, Route
from proxy.routing import config_file
from tests.proxy.formats.scenarios import CALL, RESPONSES, events
from tests.support.cluster import Cluster, cluster, own_servers
from tests.support.environment import ON_SERVERS
from tests.support.factories import record
from tests.support.gateway_server import ROOT, GatewayProcess, silent_server
from tests.support.live_gateway import LiveGateway
from tests.support.sdks import (
    CLIENT_REQUEST,
    PROVIDERS,
    SCENARIOS,
    SIGNATURE,
    STREAM_ERROR,
    gemini_sdk,
    respond_with,
)
from tests.support.upstream_server import LocalUpstream

WATCHED_MODULE = "sitecustomize.py"
"""Module that Python imports at each start, so that the reloader watches it."""


@pytest.fixture(scope="module")
def gateways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with own_servers() as servers, cluster(tmp_path_factory.mktemp("cluster") / "data", servers) as gateways:
        yield gateways


@pytest.fixture
def small_cluster(tmp_path: Path) -> Iterator[Cluster]:
    with (
        own_servers() as servers,
        cluster(tmp_path / "data", servers, processes=2 if ON_SERVERS else 1) as gateways,
    ):
        yield gateways


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    data = tmp_path / "data with a space"
    data.mkdir()
    gateway = GatewayProcess(data)
    yield gateway
    if gateway.process is not None and gateway.process.poll() is None:
        gateway.stop(signal.SIGKILL)


@pytest.fixture
def stuck_gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Gateway with a shutdown timeout of one second, whose provider never responds."""
    data = tmp_path / "data"
    data.mkdir()
    with silent_server() as port:
        base = f"http://127.0.0.1:{port}/v1"
        gateway = GatewayProcess(data, GATEWAY_SHUTDOWN_TIMEOUT_S="1", OPENAI_BASE_URL=base).start()
        yield gateway
        if gateway.is_running:
            gateway.stop(signal.SIGKILL)


@pytest.fixture
def path_values(project: Project) -> dict[str, Any]:
    key, _ = ApiKey.objects.issue(project, "app")
    credential = Credential.objects.create(
        project=project, slug="local", provider="compatible", base_url="http://127.0.0.1:1/v1"
    )
    webhook = Webhook(project=project, name="pager", url="https://example.org/hook")
    webhook.new_secret()
    webhook.save()
    return {
        "slug": project.slug,
        "public_id": key.public_id,
        "budget_id": project.budgets.create(period="day", limit_nano=1).pk,
        "webhook_id": webhook.pk,
        "price_id": PriceOverride.objects.create(
            project=project, model="llama", input_nano=1, output_nano=1
        ).pk,
        "record_id": record(key).pk,
        "credential_id": credential.pk,
        "route_id": Route.objects.create(
            project=project, name="smart", targets=[{"provider": "local", "model": "x"}]
        ).pk,
        "token_id": "unknown",
        "invitation_id": Invitation.objects.invite(
            project, "dana@example.org", Role.VIEWER, granted_by=Role.OWNER, invited_by=None
        )[0].pk,
        "member_id": project.memberships.get(user__email="bob@example.org").pk,
        "credential": credential.slug,
        "credential_slug": credential.slug,
    }


@pytest.fixture(params=["/v1", "/openai/v1"])
def sdk_client(
    request: pytest.FixtureRequest, live_gateway: LiveGateway, upstream: LocalUpstream, token: str
) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=live_gateway.url + request.param, api_key=token, max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def shared_dev_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("dev")
    modules = directory / "modules"
    modules.mkdir()
    (modules / WATCHED_MODULE).touch()
    search_path = f"{ROOT}:{modules}"
    server = GatewayProcess(directory / "data", GATEWAY_DEBUG="true", PYTHONPATH=search_path)
    server.command = ("-u", str(ROOT / "manage.py"), "runserver")
    server.leads_process_group = True
    yield server
    if server.is_running:
        server.stop()


@pytest.fixture
def dev_server(shared_dev_server: GatewayProcess) -> GatewayProcess:
    return shared_dev_server if shared_dev_server.is_running else shared_dev_server.start()


@pytest.fixture
def dev_token(dev_server: GatewayProcess) -> str:
    return dev_server.manage("create_api_key", "app", "all").split()[-1]


@pytest.fixture
def provider_format(request: pytest.FixtureRequest) -> str:
    """Return the format of the provider."""
    format: str = request.param
    return format


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, upstream: LocalUpstream, provider_format: str) -> str:
    name: str = request.param
    upstream.handler = respond_with(CODECS[provider_format], RESPONSES[name])
    return name


@pytest.fixture
def provider_model(provider_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return a model of the provider. For OpenAI, it is configured to use the Responses API."""
    config = tmp_path / "gateway.yaml"
    config.write_text("models: [{name: deep, provider: openai, api: responses}]")
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update={"ai_gateway_config": config}))
    config_file.load.cache_clear()
    yield "deep" if provider_format == "openai_responses" else "other/m"
    config_file.load.cache_clear()


@pytest.fixture
def provider_key(demo_project: Project, upstream: LocalUpstream, provider_format: str) -> str:
    base = upstream.url if provider_format.startswith("openai") else upstream.url.removesuffix("/v1")
    credential = Credential(
        project=demo_project, slug="other", provider=PROVIDERS[provider_format], base_url=base
    )
    credential.set_secret("sk-provider-secret")
    credential.save()
    return ApiKey.objects.issue(demo_project, "sdk")[1]


@pytest.fixture
def anthropic_client(live_gateway: LiveGateway, provider_key: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=live_gateway.url, api_key=provider_key, max_retries=0) as client:
        yield client


@pytest.fixture
def gemini_client(live_gateway: LiveGateway, provider_key: str) -> Iterator[genai.Client]:
    with gemini_sdk(live_gateway, provider_key) as client:
        yield client


@pytest.fixture
def openai_client(live_gateway: LiveGateway, provider_key: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_gateway.url}/v1", api_key=provider_key, max_retries=0) as client:
        yield client


@pytest.fixture
def thinking_upstream(upstream: LocalUpstream, provider_format: str) -> LocalUpstream:
    """A provider that thinks, calls a tool, and requires its signature in the next request.

    Gemini signs the call, the other formats sign the thinking.
    """
    signed = provider_format == "gemini"
    thinking_signature = None if signed else SIGNATURE
    thought = Thinking(text="Hm.", signature=thinking_signature, origin=provider_format)  # type: ignore[arg-type]
    call = replace(CALL, signature=SIGNATURE, origin="gemini") if signed else CALL
    upstream.handler = respond_with(
        CODECS[provider_format],
        Response(id="a", model="m", choices=(Choice(parts=(thought, call), finish_reason="tool_calls"),)),
    )
    return upstream


@pytest.fixture
def image_upstream(upstream: LocalUpstream, provider_format: str) -> LocalUpstream:
    upstream.handler = respond_with(CODECS[provider_format], RESPONSES["text"])
    return upstream


@pytest.fixture
def interrupted_upstream(upstream: LocalUpstream) -> bytes:
    """Provider with an Anthropic stream that starts and fails; return the bytes that it sends."""
    encoder = CODECS["anthropic"].render_stream(CLIENT_REQUEST)
    sent: bytes = b"".join(encoder.encode(event) for event in events(RESPONSES["text"])[:3]) + STREAM_ERROR

    async def respond(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(sent)
        return response

    upstream.handler = respond
    return sent

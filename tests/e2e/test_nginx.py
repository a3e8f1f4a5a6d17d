"""The services of docker-compose.yml behind nginx with `deploy/nginx.conf`: SDKs, streams, restarts.

Each service is started with the command and the variables of docker-compose.yml.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx
import openai
import pytest
import yaml
from aiohttp import web
from google import genai
from google.genai import types

from tests.support.cluster import MODEL, Cluster, cluster, own_servers
from tests.support.gateway_server import ROOT, GatewayProcess
from tests.support.nginx import Nginx, needs_nginx, nginx_before
from tests.support.redis_gateways import needs_servers
from tests.support.upstream_server import chunk, completion

pytestmark = [pytest.mark.databases, pytest.mark.long, needs_servers, needs_nginx]

SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
FROM_COMPOSE = ("GATEWAY_DRAIN_S", "GATEWAY_SHUTDOWN_TIMEOUT_S", "GATEWAY_SURFACES")
STREAM_S = 1.0
CLIENTS = 20
ROUNDS = 2
MEASUREMENTS = 100
SETTLE_S = 3.0
"""Pause after each start: longer than the 2 s (fail_timeout) after which nginx uses a process again."""


def variables(service: str) -> dict[str, str]:
    return {name: SERVICES[service]["environment"][name] for name in FROM_COMPOSE}


@dataclass
class Deployment:
    gateways: Cluster
    nginx: Nginx
    token: str

    def client(self, base_url: str) -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.token}"}
        return httpx.AsyncClient(base_url=base_url, headers=headers, timeout=60)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    data = tmp_path_factory.mktemp("compose") / "data"
    with ExitStack() as stack:
        servers = stack.enter_context(own_servers())
        proxied = {**servers, "GATEWAY_TRUSTED_PROXIES": "127.0.0.0/8"}
        gateways = stack.enter_context(cluster(data, {**proxied, **variables("gateway-1")}, processes=2))
        web_process = GatewayProcess(data, **proxied, **variables("web")).start()
        stack.callback(web_process.stop)
        for service in ("worker", "beat"):
            stack.enter_context(celery(service, web_process))
        first, second = (process.port for process in gateways.processes)
        ports = {"gateway-1": first, "gateway-2": second, "web": web_process.port}
        nginx = stack.enter_context(nginx_before(ports))
        yield Deployment(gateways, nginx, gateways.new_key("--daily-budget", "1000"))


@contextmanager
def celery(service: str, like: GatewayProcess) -> Iterator[None]:
    """Run the worker or beat with the command of docker-compose.yml."""
    command = [sys.executable, *SERVICES[service]["command"][1:]]
    with (like.data.parent / f"{service}.log").open("wb") as log:
        process = subprocess.Popen(command, env=like.environment, cwd=like.data, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, f"{service} has ended"
    finally:
        process.terminate()
        process.wait(40)


async def slow_completion(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond as a provider whose responses take STREAM_S."""
    if not body.get("stream"):
        await asyncio.sleep(STREAM_S / 2)
        return await completion(request, body)
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(10):
        await response.write(chunk({"content": "word "}))
        await asyncio.sleep(STREAM_S / 10)
    await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
    return response


def request_of(*, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": MODEL, "max_tokens": 20, "user": "u", "stream": stream, "messages": messages}


def test_restarts_of_each_process_fail_no_request(deployment: Deployment) -> None:
    before, deployment.gateways.upstream.handler = deployment.gateways.upstream.handler, slow_completion
    try:
        results = asyncio.run(load_during_restarts(deployment))
    finally:
        deployment.gateways.upstream.handler = before
    print(f"\nrequests during {ROUNDS * 2} restarts: {dict(results)}")
    assert set(results) == {"complete stream", "complete response"}, (
        results,
        deployment.nginx.errors.read_text()[-4000:],
    )


async def load_during_restarts(deployment: Deployment) -> Counter[str]:
    """Send requests without a pause while each process is stopped and started. Count the results."""
    stop = asyncio.Event()
    results: Counter[str] = Counter()
    async with deployment.client(deployment.nginx.url) as client, asyncio.TaskGroup() as tasks:
        for n in range(CLIENTS):
            tasks.create_task(send_until(stop, client, results, stream=n % 2 == 0))
        try:
            await restart_each(deployment)
        finally:
            stop.set()
    return results


async def restart_each(deployment: Deployment) -> None:
    for process in deployment.gateways.processes * ROUNDS:
        await asyncio.sleep(SETTLE_S)
        await asyncio.to_thread(process.stop)
        await asyncio.to_thread(process.start)


async def send_until(
    stop: asyncio.Event, client: httpx.AsyncClient, results: Counter[str], *, stream: bool
) -> None:
    while not stop.is_set():
        try:
            response = await client.post("/v1/chat/completions", json=request_of(stream=stream))
        except httpx.TransportError as error:
            results[repr(error)] += 1
        else:
            results[result_of(response, stream=stream)] += 1


def result_of(response: httpx.Response, *, stream: bool) -> str:
    if response.status_code != 200:
        return f"{response.status_code} {response.text[:200]}"
    if not stream:
        return "complete response"
    complete = response.text.count("word ") == 10 and "[DONE]" in response.text
    return "complete stream" if complete else f"incomplete stream {response.text[-300:]}"


def test_nginx_sends_the_first_chunk_at_once(deployment: Deployment) -> None:
    """The provider sends the rest only after the client has the first chunk."""
    received = asyncio.Event()

    async def wait_for_client(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chunk({"content": "first"}))
        with suppress(TimeoutError):
            await asyncio.wait_for(received.wait(), 20)
        await response.write(chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    upstream = deployment.gateways.upstream
    before, upstream.handler = upstream.handler, wait_for_client
    headers = {"authorization": f"Bearer {deployment.token}"}
    url = f"{deployment.nginx.url}/v1/chat/completions"
    try:
        with httpx.stream("POST", url, json=request_of(stream=True), headers=headers, timeout=15) as response:
            lines = response.iter_lines()
            assert any("first" in line for line in lines)
            upstream.loop.call_soon_threadsafe(received.set)
            assert "data: [DONE]" in list(lines)
    finally:
        upstream.handler = before


def test_time_that_nginx_adds_to_the_first_chunk(deployment: Deployment) -> None:
    direct = deployment.gateways.processes[0].url
    medians = asyncio.run(first_chunk_medians(deployment, [direct, deployment.nginx.url]))
    added_ms = (medians[1] - medians[0]) * 1000
    print(f"\nfirst chunk: {medians[0] * 1000:.1f} ms directly, {added_ms:.2f} ms more through nginx")
    assert added_ms < 1000


async def first_chunk_medians(deployment: Deployment, urls: list[str]) -> list[float]:
    """Return the median time to the first chunk at each URL. The measurements alternate."""
    times: list[list[float]] = [[] for _ in urls]
    for _ in range(MEASUREMENTS):
        for url, its_times in zip(urls, times, strict=True):
            its_times.append(await first_chunk_s(deployment, url))
    return [statistics.median(its_times) for its_times in times]


async def first_chunk_s(deployment: Deployment, url: str) -> float:
    async with deployment.client(url) as client:
        await client.get("/health")  # Opens the connection.
        started = time.monotonic()
        async with client.stream("POST", "/v1/chat/completions", json=request_of(stream=True)) as response:
            await anext(response.aiter_bytes())
            return time.monotonic() - started


@pytest.mark.parametrize("stream", [False, True])
def test_the_openai_sdk(deployment: Deployment, stream: bool) -> None:
    with openai.OpenAI(base_url=f"{deployment.nginx.url}/v1", api_key=deployment.token) as client:
        result: Any = client.chat.completions.create(**request_of(stream=stream))
        if stream:
            text = "".join(part.choices[0].delta.content or "" for part in result if part.choices)
        else:
            text = result.choices[0].message.content
    assert text == "Hello there"


@pytest.mark.parametrize("stream", [False, True])
def test_the_anthropic_sdk(deployment: Deployment, stream: bool) -> None:
    arguments: Any = {"model": MODEL, "max_tokens": 20, "messages": [{"role": "user", "content": "Hi"}]}
    arguments["metadata"] = {"user_id": "u"}
    with anthropic.Anthropic(base_url=deployment.nginx.url, api_key=deployment.token) as client:
        if stream:
            with client.messages.stream(**arguments) as running:
                message = running.get_final_message()
        else:
            message = client.messages.create(**arguments)
    assert [block.text for block in message.content if block.type == "text"] == ["Hello there"]


@pytest.mark.parametrize("stream", [False, True])
def test_the_google_sdk(deployment: Deployment, stream: bool) -> None:
    deployment.gateways.upstream.handler = completion  # A request in Gemini's format names no user.
    options = types.HttpOptions(base_url=deployment.nginx.url, api_version="v1beta")
    arguments: Any = {"model": MODEL, "contents": "Hi"}
    with genai.Client(api_key=deployment.token, http_options=options) as client:
        if stream:
            text = "".join(part.text or "" for part in client.models.generate_content_stream(**arguments))
        else:
            text = client.models.generate_content(**arguments).text or ""
    assert text == "Hello there"


def test_pages_are_served_and_metrics_are_not(deployment: Deployment) -> None:
    assert httpx.get(f"{deployment.nginx.url}/accounts/login/").status_code == 200
    assert httpx.get(f"{deployment.nginx.url}/metrics").status_code == 404

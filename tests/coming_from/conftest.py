"""A gateway that is set up as the documents of similar gateways say, and curl to run their commands.

The commands are those of the documents. Only the address and the placeholder of the key are replaced. A
server on the loopback interface takes the place of the vendors.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.conf import settings

from gateway_project.bootstrap import get_or_create_anonymous_project
from keys.models import ApiKey
from projects.models import Project
from tests.support.api_calls import COMPLETE_USAGE, respond_with_text
from tests.support.live_gateway import LiveGateway
from tests.support.operator_accounts import forget_configuration
from tests.support.upstream_server import LocalUpstream, completion

ADDRESS = re.compile(r"http://localhost:\d+")
KEY_PLACEHOLDERS = re.compile(r"YOUR_API_KEY|ADMIN_API_KEY|YOUR_KEY|\{AI_GATEWAY_API_KEY\}")
PROXY_CONFIG = """
version: "1.0"

models:
  - name: "gpt-4"
    provider: "openai"

  - name: "claude-3-5-sonnet-20241022"
    provider: "anthropic"

  - name: "gemini-2.0-flash-exp"
    provider: "gemini"
"""
"""The example of document 004."""
EMBEDDING = {"object": "embedding", "index": 0, "embedding": [0.5, -0.5]}


@dataclass(frozen=True)
class Reply:
    """A response, as curl prints it."""

    status: int
    headers: httpx.Headers
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def events(self) -> list[Any]:
        lines = [line[6:] for line in self.text.splitlines() if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]


@dataclass(frozen=True)
class Documented:
    """The running gateway, with a key for the placeholders of the documents, and its vendors."""

    url: str
    project: Project
    key: str
    upstream: LocalUpstream

    def curl(self, command: str, key: str = "") -> Reply:
        """Run a command of a document, and return the response."""
        addressed = KEY_PLACEHOLDERS.sub(key or self.key, ADDRESS.sub(self.url, command.strip()))
        done = subprocess.run(
            ["bash", "-c", addressed.replace("curl ", "curl -sS -i --max-time 30 ", 1)],
            capture_output=True,
            text=True,
            check=True,
        )
        head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
        status, *fields = head.splitlines()
        return Reply(int(status.split()[1]), httpx.Headers([field_of(field) for field in fields]), body)


def field_of(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name, value


async def vendors(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Respond as the vendor whose API has this path."""
    if request.path.endswith("/embeddings"):
        usage = {"prompt_tokens": 4, "total_tokens": 4}
        return web.json_response(
            {"object": "list", "data": [EMBEDDING], "model": body["model"], "usage": usage}
        )
    if request.path.endswith("/chat/completions"):
        return await completion(request, body)
    format = "anthropic" if request.path.endswith("/messages") else "gemini"
    response: web.StreamResponse = await respond_with_text(format, "Hello!", COMPLETE_USAGE[format])(
        request, body
    )
    return response


@pytest.fixture
def documented(
    live_gateway: LiveGateway,
    upstream: LocalUpstream,
    demo_project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Documented]:
    """Set the variables and the YAML file of the documents. A request needs no key."""
    config = tmp_path / "proxy-config.yaml"
    config.write_text(PROXY_CONFIG)
    root = upstream.url.removesuffix("/v1")
    variables = {
        "ai_gateway_auth": "open",
        "ai_gateway_config": config,
        "ai_gateway_model_routes": f"gpt-4:{upstream.url},llama:{upstream.url}",
        "anthropic_api_key": "sk-ant-your-anthropic-key",
        "anthropic_base_url": root,
        "gemini_api_key": "AIza-your-gemini-key",
        "gemini_base_url": root,
    }
    upstream.handler = vendors
    monkeypatch.setattr(settings, "ENV", settings.ENV.model_copy(update=variables))
    forget_configuration()
    get_or_create_anonymous_project()
    key = ApiKey.objects.issue(demo_project, "documents")[1]
    yield Documented(live_gateway.url, demo_project, key, upstream)
    # The test may have changed the environment too. Nothing of either may be left in the configuration.
    monkeypatch.undo()
    forget_configuration()

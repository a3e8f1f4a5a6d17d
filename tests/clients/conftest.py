"""Fixtures of the tests with agents and SDKs: a gateway in front of the strict provider."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.agents import Codex, GeminiCli, NodeScript
from tests.support.live_gateway import LiveGateway
from tests.support.operator_accounts import operator_accounts
from tests.support.strict_provider.provider import StrictProvider
from tests.support.upstream_server import LocalUpstream

MODELS = (
    "gpt-5.2",
    "gpt-5.1-codex",
    "claude-sonnet-4-6",
    "gemini-2.5-flash",
    "gemini-3-pro-preview",
    "qwen3",
    "deepseek-v3.2",
)
"""Model names of OpenAI's two formats, Anthropic, both generations of Gemini, and two compatible servers.

The last server rejects a tool call in the history without the reasoning that preceded it.
"""
CONFIG = """
models:
  - {{name: gpt-5.2, provider: openai}}
  - {{name: gpt-5.1-codex, provider: openai, api: responses}}
  - {{name: claude-sonnet-4-6, provider: anthropic}}
  - {{name: gemini-2.5-flash, provider: gemini}}
  - {{name: gemini-3-pro-preview, provider: gemini}}
  - {{name: qwen3, provider: compatible, base_url: "{root}/compatible/v1"}}
  - {{name: deepseek-v3.2, provider: deepseek, base_url: "{root}/reasoning/v1"}}
"""

every_model = pytest.mark.parametrize("model", MODELS)


@dataclass(frozen=True)
class Access:
    """Address and key of the gateway."""

    url: str
    key: str


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("clients") and "GATEWAY_TEST_CLIENTS" not in os.environ:
        pytest.skip(os.environ.get("GATEWAY_TEST_CLIENTS_MISSING", "npm packages are needed: use --clients"))


@pytest.fixture
def provider(upstream: LocalUpstream) -> StrictProvider:
    provider = StrictProvider()
    upstream.handler = provider.respond
    return provider


@pytest.fixture
def access(
    live_gateway: LiveGateway,
    provider: StrictProvider,
    local_upstream: LocalUpstream,
    token: str,
    tmp_path: Path,
) -> Iterator[Access]:
    """Configure the operator's accounts and models; return what a client needs."""
    root = local_upstream.url.removesuffix("/v1")
    config = tmp_path / "gateway.yaml"
    config.write_text(CONFIG.format(root=root))
    with operator_accounts(root, config):
        yield Access(live_gateway.url, token)


@pytest.fixture
def codex(access: Access, tmp_path: Path) -> Codex:
    return Codex(access.url, access.key, tmp_path)


@pytest.fixture
def gemini_cli(access: Access, tmp_path: Path) -> GeminiCli:
    return GeminiCli(access.url, access.key, tmp_path)


@pytest.fixture
def node_script(access: Access, tmp_path: Path) -> NodeScript:
    return NodeScript(access.url, access.key, tmp_path)

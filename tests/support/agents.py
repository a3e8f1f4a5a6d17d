"""Runs coding agents and JavaScript SDKs from npm with a base URL, an API key and a model."""

import json
import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from tests.support.gateway_server import ROOT

TIMEOUT_S = 90
PROMPT = "Run the probe with your shell tool and report its output."
CODEX_CONFIG = """
model_provider = "gateway"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.gateway]
name = "gateway"
base_url = "{url}/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
"""
GEMINI_SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "telemetry": {"enabled": False},
    "general": {"enableAutoUpdate": False},
}


class NodeClient:
    """A program from npm with its own home directory and environment."""

    def __init__(self, url: str, key: str, directory: Path) -> None:
        self.url, self.key = url, key
        self.packages = Path(os.environ["GATEWAY_TEST_CLIENTS"])
        self.home = directory / "home"
        self.workspace = directory / "workspace"
        self.home.mkdir()
        self.workspace.mkdir()

    def execute(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the workspace."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            **variables,
        }
        return subprocess.run(
            command,
            env=environment,
            cwd=self.workspace,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def program(self, name: str) -> str:
        return str(self.packages / ".bin" / name)


class Agent(NodeClient, ABC):
    """An agent. `run` begins a conversation, and `resume` continues it, optionally with another model."""

    @abstractmethod
    def run(self, model: str) -> str: ...

    @abstractmethod
    def resume(self, model: str) -> str: ...


class Codex(Agent):
    # The sandbox of Codex needs rights that a container may lack.
    FLAGS = ("--skip-git-repo-check", "--json", "--dangerously-bypass-approvals-and-sandbox")

    def __init__(self, url: str, key: str, directory: Path) -> None:
        super().__init__(url, key, directory)
        (self.home / ".codex").mkdir()
        (self.home / ".codex" / "config.toml").write_text(CODEX_CONFIG.format(url=url))

    def run(self, model: str) -> str:
        return self.codex("exec", *self.FLAGS, "-m", model, PROMPT)

    def resume(self, model: str) -> str:
        return self.codex("exec", "resume", "--last", *self.FLAGS, "-m", model, PROMPT)

    def codex(self, *arguments: str) -> str:
        return output_of(self.execute(self.program("codex"), *arguments, GATEWAY_KEY=self.key))


class GeminiCli(Agent):
    FLAGS = ("--yolo", "-o", "json")

    def __init__(self, url: str, key: str, directory: Path) -> None:
        super().__init__(url, key, directory)
        (self.home / ".gemini").mkdir()
        (self.home / ".gemini" / "settings.json").write_text(json.dumps(GEMINI_SETTINGS))

    def run(self, model: str) -> str:
        return self.gemini("-m", model, "-p", PROMPT)

    def resume(self, model: str) -> str:
        return self.gemini("--resume", "latest", "-m", model, "-p", PROMPT)

    def gemini(self, *arguments: str) -> str:
        done = self.execute(
            self.program("gemini"),
            *arguments,
            *self.FLAGS,
            GEMINI_API_KEY=self.key,
            GOOGLE_GEMINI_BASE_URL=self.url,
            GEMINI_CLI_TRUST_WORKSPACE="true",
        )
        return output_of(done)


def output_of(done: subprocess.CompletedProcess[str]) -> str:
    return f"{done.stdout}\n{done.stderr}"


class NodeScript(NodeClient):
    """A script of tests/clients that runs an SDK and prints its results as JSON."""

    def run(self, name: str, *arguments: str) -> Any:
        # Node looks for packages beside the script.
        script = self.workspace / name
        script.write_bytes((ROOT / "tests" / "clients" / name).read_bytes())
        (self.workspace / "node_modules").symlink_to(self.packages)
        done = self.execute("node", str(script), *arguments, GATEWAY_URL=self.url, GATEWAY_KEY=self.key)
        assert done.returncode == 0, output_of(done)
        return json.loads(done.stdout)

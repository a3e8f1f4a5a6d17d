"""Generated requests and a generated client work with the document of the management API.

The programs are not dependencies of the tests: docs/development.md says how to install them.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.gateway_server import GatewayProcess

CASES = 20_000
OPERATIONS = 35
SCOPES = ("usage:read", "logs:read", "keys:manage", "project:manage")
USE_OF_THE_CLIENT = """
from ai_gateway_client import AuthenticatedClient
from ai_gateway_client.api.keys import create_key, list_keys
from ai_gateway_client.api.projects import create_project
from ai_gateway_client.models import NewKeyRequest, NewProjectRequest

client = AuthenticatedClient(base_url="{url}", token="{token}", raise_on_unexpected_status=True)
project = create_project.sync(client=client, body=NewProjectRequest(name="My App"))
key = create_key.sync(project.data.id, client=client, body=NewKeyRequest(name="app", daily_budget=5))
keys = list_keys.sync(project.data.id, client=client)
assert key.data.id in [each.id for each in keys.data]
print("works", key.data.api_key[:6], keys.next_cursor)
"""

pytestmark = pytest.mark.long


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatewayProcess]:
    data = tmp_path / "data"
    data.mkdir()
    server = GatewayProcess(data, GATEWAY_API_RPM="0", GATEWAY_OPERATOR_EMAIL="op@example.org").start()
    yield server
    server.stop()


@pytest.fixture
def operator_token(server: GatewayProcess) -> str:
    return server.manage("create_access_token", "op@example.org", *SCOPES).split()[-1]


def run(folder: Path, program: str, *arguments: str) -> str:
    """Run a program and return its output. Skip the test if the program is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def test_schemathesis_finds_no_fault(server: GatewayProcess, operator_token: str, tmp_path: Path) -> None:
    """Valid bodies may be refused, because the document cannot describe all rules of the forms."""
    output = run(
        tmp_path, "schemathesis", "run", f"{server.url}/api/schema",
        "--header", f"Authorization: Bearer {operator_token}",
        "--phases", "coverage,fuzzing", "--max-examples", str(CASES // OPERATIONS * 2),
        "--exclude-checks", "positive_data_acceptance", "--continue-on-failure",
        "--exclude-path-regex", "/tokens/|/test$",
    )  # fmt: skip
    generated = re.search(r"([\d,]+) generated", output)
    assert generated and int(generated[1].replace(",", "")) >= CASES


def test_a_generated_client_works(server: GatewayProcess, operator_token: str, tmp_path: Path) -> None:
    run(
        tmp_path, "openapi-python-client", "generate",
        "--url", f"{server.url}/api/schema", "--meta", "none", "--output-path", "ai_gateway_client",
    )  # fmt: skip
    program = USE_OF_THE_CLIENT.format(url=server.url, token=operator_token)
    assert run(tmp_path, sys.executable, "-c", program) == "works sk-gw_ None\n"

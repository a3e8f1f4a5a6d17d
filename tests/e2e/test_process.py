"""The gateway as a process: its start, its signals, its logs and its commands."""

import re
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from django.core.management import CommandError, call_command

from tests.support.gateway_server import GatewayProcess, silent_server

RESERVED_NANO = 13 * 1000 + 500 * 2000
"""Reservation of the demo model's request in these tests: 13 input and 500 output tokens."""


def test_first_start_prints_a_working_curl_command(gateway: GatewayProcess) -> None:
    gateway.start()
    output = gateway.output.read_text()
    assert f"http://localhost:{gateway.port}" in output and "operator@localhost" in output
    (line,) = re.findall(r"^ *(curl .*)$", output, re.MULTILINE)
    response = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"}
    ).stdout
    assert '"object":"chat.completion"' in response
    (token,) = set(re.findall(r"sk-gw_\w+", output))
    gateway.stop()
    gateway.start()
    assert gateway.post(token).status_code == 200
    assert gateway.output.read_text().count(token) == 2, "the key is shown only at the first start"
    assert len(gateway.query("SELECT 1 FROM billing_usagerecord")) == 2


def test_operator_can_sign_in_with_the_printed_password(gateway: GatewayProcess) -> None:
    gateway.start()
    (password,) = re.findall(r"password +(\S+)", gateway.output.read_text())
    with httpx.Client(base_url=gateway.url, follow_redirects=True) as browser:
        page = browser.get("/accounts/login/")
        token = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[0]
        form = {"login": "operator@localhost", "password": password, "csrfmiddlewaretoken": token}
        assert (
            "Demo" in browser.post("/accounts/login/", data=form, headers={"referer": f"{gateway.url}/"}).text
        )
        assert browser.get("/admin/").status_code == 200


def test_keys_created_and_revoked_by_command_apply_at_once(gateway: GatewayProcess) -> None:
    gateway.start()
    printed = gateway.manage(
        "create_api_key", "john.doe", "all", "--daily-budget", "0.000033000", "--rpm", "5"
    )
    token = printed.splitlines()[-1]
    assert token.startswith("sk-gw_")
    assert gateway.post(token, max_tokens=10).status_code == 200
    assert gateway.post(token, max_tokens=10).json()["error"]["code"] == "insufficient_quota"
    gateway.manage(
        "shell", "-v0", "-c", "from keys.models import ApiKey; ApiKey.objects.get(label='john.doe').revoke()"
    )
    time.sleep(1)
    assert gateway.post(token).status_code == 401


@pytest.mark.parametrize(
    "arguments",
    [
        ["x", "wrong"],
        ["x", "all", "--daily-budget", "-1"],
        ["x", "all", "--rpm", "0"],
        ["x", "all", "--tpm", "9" * 25],
        ["x", "all", "--expires-in-days", "99999999"],
        ["x", "all", "--project", "no"],
    ],
)
def test_invalid_create_api_key_arguments_are_reported(
    db: None, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(CommandError):
        call_command("create_api_key", *arguments)
    assert "sk-gw_" not in capsys.readouterr().out


def test_kill_during_a_stream_leaves_one_estimate(gateway: GatewayProcess) -> None:
    gateway.start()
    token = gateway.manage("create_api_key", "app", "all", "--daily-budget", "1").split()[-1]
    stream = gateway.open_stream(token, max_tokens=500)
    assert gateway.query("SELECT spent_nano, reserved_nano FROM billing_budgetwindow") == [(0, RESERVED_NANO)]
    gateway.stop(signal.SIGKILL)
    stream.close()
    gateway.start()
    assert gateway.query("SELECT estimated, cost_nano, streamed FROM billing_usagerecord") == [
        (1, RESERVED_NANO, 1)
    ]
    assert gateway.query("SELECT spent_nano, reserved_nano FROM billing_budgetwindow") == [(RESERVED_NANO, 0)]
    assert gateway.query("SELECT * FROM billing_reservation") == []


def test_graceful_shutdown_finishes_and_settles_streams(gateway: GatewayProcess) -> None:
    gateway.start()
    token = gateway.demo_key()
    rest = b""
    with gateway.open_stream(token, max_tokens=100) as stream:
        assert gateway.stop(signal.SIGTERM) < 10
        while received := stream.recv(65536):
            rest += received
    assert b"[DONE]" in rest
    assert gateway.query("SELECT outcome, output_tokens, estimated FROM billing_usagerecord") == [
        ("ok", 100, 0)
    ]
    assert gateway.query("SELECT * FROM billing_reservation") == []


def test_sqlite_database_is_served_by_one_process(gateway: GatewayProcess) -> None:
    gateway.start()
    second = GatewayProcess(gateway.data)
    second.output = gateway.data.parent / "second.log"
    with pytest.raises(AssertionError, match="another gateway process uses"):
        second.start()


START_AND_LIST = """
import asyncio
from gateway_project import lifespan
from gateway_project.celery import app

async def start():
    async with lifespan.running_services():
        print({entry["task"] for entry in app.conf.beat_schedule.values()} - set(app.tasks))

asyncio.run(start())
"""


def test_the_tasks_of_the_schedule_are_imported_at_the_start(gateway: GatewayProcess) -> None:
    gateway.manage("migrate", "-v0")
    assert gateway.manage("shell", "-v0", "-c", START_AND_LIST).splitlines()[-1] == "set()"


def test_log_is_json_without_keys_or_prompts(gateway: GatewayProcess) -> None:
    gateway.start()
    token = gateway.manage("create_api_key", "app", "all").split()[-1]
    secret = "a-very-private-prompt"
    gateway.post(token, messages=[{"role": "user", "content": secret}], max_tokens=3)
    httpx.get(f"{gateway.url}/v1/models", params={"key": token})
    gateway.post(f"{token}0", messages=[{"role": "user", "content": secret}])
    httpx.get(f"{gateway.url}/accounts/login/", params={"key": token})
    lines = [line for line in gateway.log_lines() if "request_id" in line]
    assert [line["status_code"] for line in lines] == [200, 200, 401]
    expected = {
        "level": "info",
        "format": "openai",
        "model": "demo/chat",
        "provider": "demo",
        "streaming": False,
        "output_tokens": 3,
    }
    assert expected.items() <= lines[0].items() and {"timestamp", "message", "duration_ms"} <= lines[0].keys()
    logged = gateway.output.read_text()
    assert secret not in logged and token not in logged and token.split("_")[2] not in logged


def test_health_ready_and_metrics_need_no_key(gateway: GatewayProcess) -> None:
    gateway.start()
    health = httpx.get(f"{gateway.url}/health", headers={"host": "anything.example"}).json()
    assert health["status"] == "healthy" and health["models"] == 2 and health["timestamp"].endswith("Z")
    httpx.post(f"{gateway.url}/v1/chat/completions")
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'gateway_outcomes_total{outcome="auth"} 1.0' in metrics and "proxy_requests_total{" in metrics


def test_yaml_routes_and_timeout_are_read(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    config = tmp_path / "routes.yaml"
    config.write_text(
        'version: "1.0"\nmodels:\n  - {name: house-model, provider: demo, description: x}\n'
        "default_provider: openai\ntimeout: 1s\n"
    )
    with silent_server() as port:
        gateway = GatewayProcess(data, OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1").start(
            "--config", str(config)
        )
        token = gateway.demo_key()
        assert gateway.post(token, model="house-model").json()["model"] == "house-model"
        assert gateway.query("SELECT cost_nano > 0 FROM billing_usagerecord") == [(1,)]
        response = gateway.post(token, model="whatever")
        assert (response.status_code, response.json()["error"]["type"]) == (504, "timeout")
        gateway.stop()


@pytest.mark.parametrize(
    ("variables", "errors"),
    [
        ({"PORT": "99999", "GATEWAY_SIGNUP": "maybe"}, ["PORT", "GATEWAY_SIGNUP"]),
        ({"REDIS_URL": "redis://127.0.0.1:1"}, ["REDIS_URL needs DATABASE_URL"]),
        ({"AI_GATEWAY_MODEL_ROUTES": "nonsense"}, ["AI_GATEWAY_MODEL_ROUTES"]),
        ({"AI_GATEWAY_CONFIG": "/nowhere.yaml"}, ["/nowhere.yaml"]),
    ],
)
def test_an_invalid_environment_stops_the_start_and_names_every_error(
    tmp_path: Path, variables: dict[str, str], errors: list[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(AssertionError) as failure:
        GatewayProcess(data, **variables).start()
    assert all(error in str(failure.value) for error in errors) and "Traceback" not in str(failure.value)


def test_stream_cut_by_shutdown_is_charged_and_gets_an_error(gateway: GatewayProcess) -> None:
    gateway.environment["GATEWAY_SHUTDOWN_TIMEOUT_S"] = "1"
    gateway.start()
    token = gateway.demo_key()
    rest = b""
    with gateway.open_stream(token, max_tokens=2000) as stream:
        assert gateway.stop(signal.SIGTERM) < 10
        while received := stream.recv(65536):
            rest += received
    assert b"was stopped" in rest and b"[DONE]" not in rest
    ((outcome, status, tokens),) = gateway.query(
        "SELECT outcome, status_code, output_tokens FROM billing_usagerecord"
    )
    assert (outcome, status) == ("unavailable", 503) and tokens > 10
    assert gateway.query("SELECT * FROM billing_reservation") == []


def test_shutdown_settles_the_stream_of_a_stalled_client(gateway: GatewayProcess) -> None:
    gateway.environment["GATEWAY_SHUTDOWN_TIMEOUT_S"] = "1"
    gateway.start()
    token = gateway.manage("create_api_key", "app", "all", "--daily-budget", "10").split()[-1]
    with gateway.open_stream(token, max_tokens=30_000, n=8, demo={"delay_ms": 0}):
        time.sleep(2)
        assert gateway.stop(signal.SIGTERM) < 10
    assert gateway.query("SELECT * FROM billing_reservation") == []
    ((outcome, output),) = gateway.query("SELECT outcome, output_tokens FROM billing_usagerecord")
    assert outcome == "unavailable" and 0 < output < 240_000
    assert "Traceback" not in gateway.output.read_text()

"""The command `ai-gateway`: its options, and how it reports what is wrong with the configuration."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from gateway_project import bootstrap, cli
from proxy.routing import config_file
from tests.support.gateway_server import ROOT, GatewayProcess


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_options_have_one_dash_or_two(dashes: str) -> None:
    options = [f"{dashes}{name}" for name in ("listen", "config", "env-file", "verbose")]
    parsed = cli.parse([options[0], ":9000", options[1], "a.yaml", options[2], "b.env", options[3]])
    assert parsed == {
        "AI_GATEWAY_CONFIG": "a.yaml",
        "AI_GATEWAY_ENV_FILE": "b.env",
        "GATEWAY_HOST": "0.0.0.0",
        "PORT": "9000",
        "GATEWAY_LOG_LEVEL": "debug",
    }


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("127.0.0.1:81", "127.0.0.1", "81"), ("[::1]:81", "::1", "81"), (":81", "0.0.0.0", "81")],
)
def test_the_address_to_listen_on(address: str, host: str, port: str) -> None:
    parsed = cli.parse(["-listen", address])
    assert (parsed["GATEWAY_HOST"], parsed["PORT"]) == (host, port)


@pytest.mark.parametrize("arguments", [["-listen", "nowhere"], ["--conf", "x"], ["-nonsense"], ["surplus"]])
def test_unknown_options_and_addresses_are_rejected(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parse(arguments)
    assert end.value.code == 2 and "usage: ai-gateway" in capsys.readouterr().err


def test_all_problems_are_reported_and_nothing_is_created(tmp_path: Path) -> None:
    data = tmp_path / "data"
    gateway = GatewayProcess(data, AI_GATEWAY_RETRY_ATTEMPTS="many", DATABASE_URL="postgresql://gw:p#w@h/db")
    done = run(gateway, tmp_path, "-config", "none.yaml", "-env-file", "none.env", "-listen", ":99999")
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "configuration error: AI_GATEWAY_ENV_FILE: there is no file none.env"
    assert "configuration error: AI_GATEWAY_RETRY_ATTEMPTS: it must be a whole number from 0 to 10" in lines
    assert "configuration error: AI_GATEWAY_CONFIG: there is no file none.yaml" in lines
    assert "configuration error: PORT: it must be a whole number from 1 to 65535" in lines
    assert any(line.startswith("configuration error: DATABASE_URL: ") for line in lines)
    assert len(lines) == 5 and "p#w" not in done.stderr and not data.exists()


def test_an_unreachable_database_is_reported(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path / "data", DATABASE_URL="postgresql://gw:secret@127.0.0.1:1/db")
    done = run(gateway, tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "secret" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("configuration error: DATABASE_URL: the database db at 127.0.0.1 cannot be opened")


def test_each_problem_of_the_config_file_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise config_file.ConfigError("a.yaml: line 1: wrong\na.yaml: line 2: wrong too")

    monkeypatch.setattr(config_file, "load", fail)
    with pytest.raises(SystemExit) as end:
        call_command("serve")
    assert end.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "configuration error: a.yaml: line 1: wrong",
        "configuration error: a.yaml: line 2: wrong too",
    ]


def test_an_address_in_use_is_reported(change_environment: Callable[..., None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        change_environment(port=port)
        with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}") as refused:
            call_command("serve")
    assert refused.value.returncode == 2


def run(gateway: GatewayProcess, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "gateway_project.cli", *arguments]
    return subprocess.run(
        command, env=gateway.environment, cwd=folder, capture_output=True, text=True, check=False
    )


def test_a_failing_query_of_a_reachable_database_keeps_its_trace(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_arguments: list[str]) -> None:
        raise OperationalError("no such table")

    monkeypatch.setattr(cli, "execute_from_command_line", fail)
    monkeypatch.setattr(connection, "close", lambda: None)
    with pytest.raises(OperationalError, match="no such table"):
        cli.run_command(["ai-gateway", "serve"])


def test_the_start_names_the_storage() -> None:
    kind = "PostgreSQL" if settings.ENV.database_url else "SQLite"
    for result in (None, bootstrap.BootstrapResult("a@example.org", None, "sk-gw_x_y")):
        assert bootstrap.banner(result).startswith(f"Storage: {kind} (persistent)\n")


def test_bootstrap_installs_the_command(tmp_path: Path) -> None:
    """The environment is faked: its packages are those of the tests, and its lock file is current."""
    (tmp_path / "script").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "script" / "bootstrap", tmp_path / "script")
    for folder in ("", ".venv/"):
        (tmp_path / f"{folder}requirements.lock").touch()
    (tmp_path / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / ".venv/bin/python").chmod(0o755)
    (tmp_path / "gateway_project").symlink_to(ROOT / "gateway_project")
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run([tmp_path / "script" / "bootstrap"], env=environment, check=True)
    help_text = subprocess.run(
        ["ai-gateway", "-help"],
        env={"PATH": f"{tmp_path}/.venv/bin:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "-listen" in help_text and "-env-file" in help_text

"""The npm packages are installed once. If this fails, the reason is shown."""

from pathlib import Path

import pytest

from tests import run
from tests.support import node_clients
from tests.support.node_clients import NodeClientsMissing

INSTALLS = 'mkdir node_modules; echo "$@" >> "$XDG_CACHE_HOME/calls"'
FAILS = "echo 'npm error code ENOTFOUND' >&2; exit 1"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory of the only programs on the PATH, beside those of the system."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "mkdir").symlink_to("/bin/mkdir")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return programs


def write_program(programs: Path, name: str, script: str) -> None:
    program = programs / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_packages_are_installed_once_without_their_scripts(programs: Path, tmp_path: Path) -> None:
    write_program(programs, "node", "echo v20.1.0")
    write_program(programs, "npm", INSTALLS)
    first, second = node_clients.install(), node_clients.install()
    assert first == second and first.is_dir()
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert "--ignore-scripts" in call


def test_a_failed_installation_says_why_and_is_repeated(programs: Path) -> None:
    write_program(programs, "node", "echo v20.1.0")
    write_program(programs, "npm", FAILS)
    with pytest.raises(NodeClientsMissing, match="ENOTFOUND"):
        node_clients.install()
    write_program(programs, "npm", "mkdir node_modules")
    assert node_clients.install().is_dir()


def test_an_old_node_is_not_used(programs: Path) -> None:
    write_program(programs, "node", "echo v18.20.0")
    write_program(programs, "npm", INSTALLS)
    with pytest.raises(NodeClientsMissing, match=r"v18\.20\.0 is older than 20"):
        node_clients.install()


@pytest.mark.parametrize(
    ("variables", "arguments", "installs"),
    [
        ({}, [], False),
        ({}, ["--clients"], True),
        ({"CI": "true"}, ["-x"], True),
        ({"CI": "true"}, [__file__], False),
    ],
)
def test_packages_are_wanted_by_the_option_and_in_ci(
    programs: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    arguments: list[str],
    installs: bool,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    reason = {"GATEWAY_TEST_CLIENTS_MISSING": "Node.js and npm are not installed."}
    assert run.clients_environment(arguments) == (reason if installs else {})

"""Everything that is wrong with the environment is reported at once."""

import pytest

from gateway_project import env


def complaints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str
) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        env.load.__wrapped__()
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_wrong_combinations_are_named_beside_wrong_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = complaints(
        monkeypatch, capsys, PORT="99999", DATABASE_URL="", REDIS_URL="redis://x", GATEWAY_SIGNUP="domains"
    )
    assert len(lines) == 3
    for part in (
        "PORT: ",
        "REDIS_URL needs DATABASE_URL",
        "GATEWAY_SIGNUP=domains needs GATEWAY_SIGNUP_DOMAINS",
    ):
        assert any(part in line for line in lines)


@pytest.mark.parametrize("url", ["mysql://u:a-password@h/db", "sqlite:///x", "host:5432/db", "postgres:/u"])
def test_a_database_that_is_not_postgresql_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (line,) = complaints(monkeypatch, capsys, DATABASE_URL=url, REDIS_URL="redis://x")
    assert "DATABASE_URL" in line and "postgres://" in line
    assert "a-password" not in line


def test_right_combinations_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "REDIS_URL": "redis://x",
        "GATEWAY_SIGNUP": "domains",
        "GATEWAY_SIGNUP_DOMAINS": "a.example, b.example",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for url in ("postgres://u:p@h/db", "postgresql://u:p@h/db"):
        monkeypatch.setenv("DATABASE_URL", url)
        assert env.Environment().gateway_signup_domains == ("a.example", "b.example")


@pytest.mark.parametrize("name", ["GATEWAY_SHUTDOWN_TIMEOUT_S", "GATEWAY_STREAMS_FINISH_S"])
def test_the_shutdown_timeout_has_an_older_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    assert env.Environment().gateway_shutdown_timeout_s == 7

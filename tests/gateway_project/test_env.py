"""All errors of the environment are reported at once."""

import pytest

from gateway_project import env


def reported_errors(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **variables: str
) -> list[str]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as end:
        env.load.__wrapped__()
    assert end.value.code == 2
    return capsys.readouterr().err.splitlines()


def test_invalid_values_and_combinations_are_reported_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = reported_errors(
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
def test_a_database_url_must_be_of_postgresql(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, DATABASE_URL=url, REDIS_URL="redis://x")
    assert "DATABASE_URL" in line and "postgres://" in line
    assert "a-password" not in line


def test_valid_combinations_pass(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_the_shutdown_timeout_has_a_second_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    assert env.Environment().gateway_shutdown_timeout_s == 7

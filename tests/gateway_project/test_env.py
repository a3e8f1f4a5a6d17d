"""All errors of the environment are reported at once."""

from functools import partial
from pathlib import Path

import pytest
import redis
from kombu.utils.url import url_to_parts

from gateway_project import env
from gateway_project.env import descriptions
from gateway_project.settings import postgresql_database


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


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"GATEWAY_SIGNUP": "open"}, "people cannot sign up"),
        ({"GATEWAY_SIGNUP": "domains", "GATEWAY_SIGNUP_DOMAINS": "a.example"}, "people cannot sign up"),
        ({"GATEWAY_TRUSTED_PROXIES": "10.0.0.0/8, 0.0.0.0/0"}, "only the networks of your proxies"),
        ({"GATEWAY_TRUSTED_PROXIES": "::/0"}, "only the networks of your proxies"),
        ({"OPENAI_API_KEY": "sk-gw_abcdefghijkl_0"}, "no provider may receive"),
        ({"AI_GATEWAY_API_KEY": "sk-gw_abcdefghijkl_0"}, "no provider may receive"),
        ({"AI_GATEWAY_API_KEY": "pat_gw_abcdefghijkl_0"}, "no provider may receive"),
    ],
)
def test_open_authentication_rejects_what_makes_no_sense_with_it(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    problem: str,
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, AI_GATEWAY_AUTH="open", **variables)
    assert problem in line and "abcdefghijkl" not in line


def test_all_errors_of_open_authentication_are_reported_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {
        "AI_GATEWAY_AUTH": "open",
        "GATEWAY_SIGNUP": "open",
        "GATEWAY_TRUSTED_PROXIES": "0.0.0.0/0",
        "GEMINI_API_KEY": "sk-gw_abcdefghijkl_0",
    }
    lines = reported_errors(monkeypatch, capsys, **variables)
    names = [line.split(": ")[1] for line in lines]
    assert names == [
        "GATEWAY_TRUSTED_PROXIES",
        "GATEWAY_SIGNUP",
        "GEMINI_API_KEY",
    ]


@pytest.mark.parametrize(("auth", "signup"), [("open", "closed"), ("required", "open")])
def test_people_cannot_sign_up_to_an_open_gateway(
    monkeypatch: pytest.MonkeyPatch, auth: str, signup: str
) -> None:
    monkeypatch.setenv("AI_GATEWAY_AUTH", auth)
    assert env.Environment().signup_mode == signup


@pytest.mark.parametrize("name", ["GATEWAY_SHUTDOWN_TIMEOUT_S", "GATEWAY_STREAMS_FINISH_S"])
def test_the_shutdown_timeout_has_a_second_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    assert env.Environment().gateway_shutdown_timeout_s == 7


ENCODED = {
    "postgresql://gw:p%40ss%2Fw%25d%23%3A%3F%2B@127.0.0.1:1/db": (
        "gw",
        "p@ss/w%d#:?+",
        "127.0.0.1",
        "1",
        "db",
    ),
    "postgresql://gw:p@ss@127.0.0.1:1/db": ("gw", "p@ss", "127.0.0.1", "1", "db"),
    "postgresql://gw:p%ss@127.0.0.1:1/db": ("gw", "p%ss", "127.0.0.1", "1", "db"),
    "postgresql://gw:p+s:s@127.0.0.1:1/db": ("gw", "p+s:s", "127.0.0.1", "1", "db"),
    "postgresql://gw:pw@[::1]:5433/db": ("gw", "pw", "::1", "5433", "db"),
    "postgres://gw%40tenant:pw@h1/my%20db?options=-csearch_path%3Dgw": ("gw@tenant", "pw", "h1", "", "my db"),
    "postgresql://gw:pw@/db?host=%2Fvar%2Frun": ("gw", "pw", "/var/run", "", "db"),
}


@pytest.mark.parametrize("url", ENCODED)
def test_a_database_url_is_decoded_once(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    database = postgresql_database(env.Environment().database_url)
    names = ("USER", "PASSWORD", "HOST", "PORT", "NAME")
    assert tuple(database[name] for name in names) == ENCODED[url]


def test_options_of_a_database_url_are_decoded() -> None:
    options = postgresql_database("postgresql://h/db?options=-csearch_path%3Dgw&sslmode=require")["OPTIONS"]
    assert isinstance(options, dict)
    assert (options["options"], options["sslmode"]) == ("-csearch_path=gw", "require")


@pytest.mark.parametrize(
    "password", ["p#ss", "p/ss", "p?ss", "5/ss", "5?ss", "5#ss", "p[ss", "p]ss", "p/s@s"]
)
@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("DATABASE_URL", "postgresql://gw:{}@127.0.0.1:1/db"),
        ("REDIS_URL", "redis://gw:{}@127.0.0.1:1/3"),
        ("REDIS_URL", "rediss://:{}@127.0.0.1:1"),
        ("GATEWAY_EMAIL_URL", "smtp://gw:{}@mail.example:587"),
    ],
)
def test_a_password_that_ends_a_url_early_is_reported(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    url: str,
    password: str,
) -> None:
    variables = {"DATABASE_URL": "postgresql://h/db", variable: url.format(password)}
    (line,) = reported_errors(monkeypatch, capsys, **variables)
    assert line.startswith(f"configuration error: {variable}: ") and "%2F" in line and password not in line


@pytest.mark.parametrize("url", ["postgresql://h:nonsense/db", "postgresql://h1:5432,h2:5432/db"])
def test_an_invalid_host_or_port_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, DATABASE_URL=url)
    assert "host or port is not valid" in line


@pytest.mark.parametrize(
    "url", ["postgresql://gw:pw@h", "postgresql://gw:pw@h/", "postgresql://h?sslmode=require"]
)
def test_a_database_url_names_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, DATABASE_URL=url)
    assert "the database name is missing" in line


@pytest.mark.parametrize(
    ("url", "password"),
    [
        ("redis://:p%40s%2Fs%25@h:1/3", "p@s/s%"),
        ("redis://user:p@ss@h:1/3", "p@ss"),
        ("rediss://u:p%23@h:1/5", "p#"),
    ],
)
def test_redis_and_celery_get_the_same_password(
    monkeypatch: pytest.MonkeyPatch, url: str, password: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/db")
    monkeypatch.setenv("REDIS_URL", url)
    checked = env.Environment().redis_url
    assert redis.Redis.from_url(checked).connection_pool.connection_kwargs["password"] == password
    assert url_to_parts(checked).password == password


def test_timeouts_and_limits_must_be_positive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (
        "GATEWAY_CONNECT_TIMEOUT_S",
        "GATEWAY_FIRST_CHUNK_TIMEOUT_S",
        "GATEWAY_IDLE_TIMEOUT_S",
        "GATEWAY_KEEPALIVE_AFTER_S",
        "GATEWAY_TOTAL_TIMEOUT_S",
        "GATEWAY_MAX_CONCURRENT_REQUESTS",
    )
    lines = reported_errors(monkeypatch, capsys, **dict.fromkeys(names, "0"))
    assert [line.split(": ")[1] for line in lines] == list(names)


NUMBERS_AND_OPTIONS = [
    names[0] for names, field in descriptions.named_fields() if descriptions.expected(field) != "text"
]


@pytest.mark.parametrize("name", NUMBERS_AND_OPTIONS)
def test_a_wrong_value_is_reported_with_what_it_may_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, **{name.upper(): "many"})
    assert line.startswith(f"configuration error: {name.upper()}: it must be ") and "many" not in line


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("AI_GATEWAY_RETRY_ATTEMPTS", "11", "a whole number from 0 to 10"),
        ("GATEWAY_IDLE_TIMEOUT_S", "0", "a number above 0"),
        ("GATEWAY_RETENTION_DAYS", "3", "a whole number from 7 to 36600"),
        ("AI_GATEWAY_RATE_LIMIT_RPM", "-1", "a whole number of at least 0"),
        ("AI_GATEWAY_BREAKER", "yes", "it must be on or off"),
        ("GATEWAY_SIGNUP", "yes", "it must be open or domains or invite or closed"),
        ("AI_GATEWAY_PROMPT_LOGGING", "maybe", "it must be true or false"),
        (
            "GATEWAY_STREAMS_FINISH_S",
            "x",
            "GATEWAY_STREAMS_FINISH_S: it must be a whole number",
        ),
        ("GATEWAY_TRUSTED_PROXIES", "proxy", "does not appear to be an IPv4 or IPv6 network"),
        ("GATEWAY_ENCRYPTION_KEYS", "short", "GATEWAY_ENCRYPTION_KEYS: "),
        ("AI_GATEWAY_CONFIG", "none.yaml", "there is no file none.yaml"),
        ("GATEWAY_PUBLIC_URL", "gateway.example.org", "https://gateway.example.org"),
        ("GATEWAY_PUBLIC_URL", "https://host.example/llm", "such as https://llm.host.example"),
        ("GATEWAY_PUBLIC_URL", "https://host.example/?a=b", "a query"),
        ("DASHBOARD_URL", "chat.example.org", "https://gateway.example.org"),
        ("GOOGLE_CLIENT_ID", "id", "GOOGLE_CLIENT_ID is set, but GOOGLE_CLIENT_SECRET is missing"),
        ("GOOGLE_CLIENT_SECRET", "secret", "GOOGLE_CLIENT_ID is missing"),
        ("OPENAI_BASE_URL", "ftp://host/v1", "an http or https address"),
        ("ANTHROPIC_BASE_URL", "host.example", "an http or https address"),
        ("GEMINI_BASE_URL", "https://host:port", "an http or https address"),
        ("AI_GATEWAY_UPSTREAM", "https://", "an http or https address"),
        ("AI_GATEWAY_MODEL_ROUTES", "llama", "model:address"),
        ("AI_GATEWAY_MODEL_ROUTES", "a:http://h/v1,:http://h", "model:address"),
        ("AI_GATEWAY_API_KEY", "sk-gw_abcdefghijkl_0", "AI_GATEWAY_API_KEY: it is a key of this gateway"),
    ],
)
def test_each_wrong_value_has_its_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    problem: str,
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, **{variable: value})
    assert problem in line


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"JWT_SECRET": "a", "SESSION_SECRET": "b"}, "JWT_SECRET and SESSION_SECRET have different values"),
        ({"JWT_SECRET": "a", "GATEWAY_SECRET_KEY": "b"}, "GATEWAY_SECRET_KEY and JWT_SECRET have"),
    ],
)
def test_two_secrets_of_sessions_must_be_equal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    named: str,
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, **variables)
    assert named in line


@pytest.mark.parametrize("name", ["GATEWAY_SECRET_KEY", "JWT_SECRET", "SESSION_SECRET"])
def test_the_secret_of_sessions_has_three_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "a-secret")
    assert env.load.__wrapped__().gateway_secret_key == "a-secret"


@pytest.mark.parametrize("name", ["DATABASE_PATH", "DB_PATH"])
def test_the_folder_of_the_database_is_created(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    monkeypatch.setenv("REDIS_URL", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, "./data/gateway.sqlite")
    assert env.load.__wrapped__().sqlite_path == tmp_path / "data" / "gateway.sqlite"
    assert (tmp_path / "data").is_dir()


def test_a_folder_that_cannot_be_created_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    (line,) = reported_errors(monkeypatch, capsys, GATEWAY_DATA_DIR=str(tmp_path / "file" / "data"))
    assert "GATEWAY_DATA_DIR: the folder" in line and "cannot be created" in line


def test_damaged_secrets_are_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "secrets.json").write_text("{")
    (line,) = reported_errors(monkeypatch, capsys, GATEWAY_DATA_DIR=str(tmp_path))
    assert "secrets.json cannot be used" in line


def test_a_slash_at_the_end_of_a_site_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_URL", "https://chat.example.org/")
    monkeypatch.setenv("GATEWAY_PUBLIC_URL", "https://gateway.example.org/")
    loaded = env.Environment()
    assert (loaded.dashboard_url, loaded.public_url) == (
        "https://chat.example.org",
        "https://gateway.example.org",
    )


def test_the_google_pair_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLIENT_ID", "id")
    monkeypatch.setenv("GOOGLE_CLIENT_SECRET", "secret")
    assert env.Environment().google_client_secret == "secret"


@pytest.mark.parametrize("name", ["GATEWAY_HOST", "HOST"])
def test_the_address_to_listen_on_has_two_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert env.Environment().gateway_host == "127.0.0.1"
    monkeypatch.setenv(name, "0.0.0.0")
    assert env.Environment().gateway_host == "0.0.0.0"


def test_the_config_file_of_the_working_directory_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert env.Environment().ai_gateway_config is None
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "proxy-config.yaml").touch()
    assert env.Environment().ai_gateway_config == Path("config/proxy-config.yaml")


def test_variables_of_the_process_win_over_those_of_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "some.env"
    file.write_text("OPENAI_API_KEY='sk-file'\nAI_GATEWAY_API_KEY=sk-file-alias\nPORT=81")
    read = partial(env.Environment, _env_file=file)
    assert (read().openai_api_key, read().port) == ("sk-file", 81)
    monkeypatch.setenv("AI_GATEWAY_API_KEY", "sk-process-alias")
    assert read().openai_api_key == "sk-process-alias"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-process")
    assert read().openai_api_key == "sk-process"


def test_only_an_env_file_that_is_named_must_exist() -> None:
    assert env.env_file_problems(None) == []
    assert env.env_file_problems(".") == ["AI_GATEWAY_ENV_FILE: there is no file ."]
    assert env.env_file_problems("none.env") == ["AI_GATEWAY_ENV_FILE: there is no file none.env"]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"GATEWAY_SURFACES": "gateway,webb"},
            "it must be a comma-separated list of gateway",
        ),
        ({"GATEWAY_SURFACES": ","}, "GATEWAY_SURFACES: it must be a comma-separated list"),
        ({"GATEWAY_ADMIN_PORT": "8080"}, "GATEWAY_ADMIN_PORT: it must differ from PORT"),
        ({"GATEWAY_ADMIN_PORT": "81", "GATEWAY_SURFACES": "web"}, "GATEWAY_SURFACES does not contain admin"),
    ],
)
def test_surfaces_and_the_admin_port_must_agree(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    problem: str,
) -> None:
    (line,) = reported_errors(monkeypatch, capsys, **variables)
    assert problem in line

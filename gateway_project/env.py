"""The environment variables that the gateway reads. Each except AI_GATEWAY_ENV_FILE is a field.

If variables are invalid, the gateway does not start, and reports all of them at once.
"""

import json
import os
import secrets
import sys
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from urllib.parse import parse_qsl, urlsplit

from cryptography.fernet import Fernet
from dotenv import dotenv_values
from pydantic import AliasChoices, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent
PRIVATE_FILE_MODE = 0o600
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of a `rediss://` URL that redis-py, Celery and the ledger all support."""

CommaList = Annotated[tuple[str, ...], NoDecode]


class Environment(BaseSettings):
    """Environment variables. The name of a field is the name of its variable in lower case.

    A validation alias lists all names of a variable. Fields are validated in the order of their definition,
    so a field must be defined after the fields on which its validator depends. There is no validator of the
    whole model: it would run only if all fields are valid, and so its errors would be reported late.
    """

    model_config = SettingsConfigDict(
        env_file=os.environ.get("AI_GATEWAY_ENV_FILE", ".env"), extra="ignore", env_ignore_empty=True
    )
    _mask_wrapped: ClassVar[bool] = True
    """Django asks every setting for this attribute on every access.

    If it is missing, pydantic takes some microseconds to say so.
    """

    port: int = Field(8080, ge=1, le=65535)
    gateway_host: str = "127.0.0.1"
    gateway_public_url: str = ""
    dashboard_url: str = ""
    gateway_data_dir: Path = BASE_DIR / "var"
    gateway_static_dir: Path | None = None
    gateway_debug: bool = False
    gateway_log_level: Literal["debug", "info", "warning", "error"] = "info"
    gateway_drain_s: float = Field(0, ge=0)
    gateway_shutdown_timeout_s: int = Field(
        30,
        ge=1,
        validation_alias=AliasChoices("gateway_shutdown_timeout_s", "gateway_streams_finish_s"),
    )

    database_url: str = ""
    database_path: Path | None = Field(None, validation_alias=AliasChoices("database_path", "db_path"))
    gateway_database_timeout_s: float = Field(5, gt=0)
    """How long the gateway waits for PostgreSQL before it treats an unresponsive server as down."""
    redis_url: str = ""
    gateway_redis_timeout_ms: int = Field(50, gt=0)
    """How long a request waits for Redis before it treats Redis as down."""
    gateway_redis_down_budgets: Literal["closed", "open"] = "closed"
    """Requests with a hard budget while Redis is down.

    `closed` denies them (503). `open` serves them, and counts them when Redis is up again.
    """
    gateway_redis_down_limits: Literal["closed", "open"] = "open"
    """Requests with rate limits but no hard budget while Redis is down.

    `closed` denies them (503). `open` serves them, and each process counts its requests separately.
    """

    gateway_secret_key: str = ""
    gateway_key_pepper: str = ""
    gateway_accepted_key_peppers: CommaList = ()
    """Peppers that are accepted besides `gateway_key_pepper` while the pepper is rotated."""
    gateway_encryption_keys: CommaList = ()

    ai_gateway_auth: Literal["required", "open"] = "required"
    """Whether callers need a key.

    `open`: without a key, a caller uses the anonymous project. A bearer token that is not a key of the
    gateway is sent to the provider.
    """
    gateway_trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()

    gateway_operator_email: str = "operator@localhost"
    gateway_operator_password: str = ""
    gateway_signup_domains: CommaList = ()
    gateway_signup: Literal["", "open", "domains", "invite", "closed"] = ""
    """Who may sign up.

    Empty: anyone, or nobody if AI_GATEWAY_AUTH is `open`, which is meant for one tenant.
    """
    gateway_email_url: str = "console://"
    gateway_email_from: str = "gateway@localhost"

    gateway_connect_timeout_s: float = Field(10, gt=0)
    """How long a new connection to a provider may take."""
    gateway_first_chunk_timeout_s: float | None = Field(None, gt=0)
    """How long a provider may take until the first data of a stream, or the headers of another response."""
    gateway_idle_timeout_s: float | None = Field(None, gt=0)
    """How long a provider may pause within a response."""
    gateway_keepalive_after_s: float = Field(10, gt=0)
    """How long a client waits for the start of its stream until it gets status 200 and keep-alives."""
    gateway_total_timeout_s: float = Field(3600, gt=0)
    """The maximum duration of a request, including its retries."""
    gateway_max_concurrent_requests: int = Field(2000, gt=0)
    """The maximum number of requests with a key that one process serves at once. Further ones get a 503."""
    gateway_max_body_bytes: int = Field(32 * 1024 * 1024, gt=0)
    gateway_max_header_bytes: int = Field(64 * 1024, gt=0)
    gateway_max_header_count: int = Field(200, gt=0)
    gateway_private_upstreams: CommaList | None = None
    gateway_unauthenticated_rpm: int = Field(300, ge=0)
    gateway_stale_config_s: int = Field(600, ge=0)
    gateway_api_rpm: int = Field(300, ge=0)
    """The requests per minute of one caller of the management API; 0 for no limit."""
    gateway_open_project_creation: bool = False
    """Whether anyone may create a project over the management API, without a token."""
    gateway_metrics_token: str = ""
    gateway_retention_days: int | None = Field(None, ge=7, le=36_600)
    """How many days usage records are kept; None: without a limit. Their daily sums always stay."""

    gateway_cache_max_mb: int = Field(64, ge=0)
    """The maximum memory of the response cache: per process without Redis, per project with Redis."""
    gateway_unpriced: Literal["closed", "open"] = "closed"
    """Requests with a hard budget for a model without a price.

    `closed` denies them. `open` serves them, and records them without a cost.
    """
    gateway_max_tokens: Literal["refuse", "clamp"] = "refuse"
    """Requests whose output limit exceeds what a hard budget can pay for.

    `refuse` denies them. `clamp` lowers the output limit.
    """
    gateway_failpoint: str = ""
    """For tests only: the place at which the process kills itself (`billing/ledger/failpoints.py`)."""

    ai_gateway_config: Path | None = None
    ai_gateway_model_routes: str = ""
    ai_gateway_send_operator_key: CommaList = ()
    """Models of AI_GATEWAY_MODEL_ROUTES whose URLs receive OPENAI_API_KEY, whatever their host is."""
    ai_gateway_upstream: str = ""
    ai_gateway_retry_attempts: int = Field(3, ge=0, le=10)
    """How often a failed call of a target is repeated."""
    ai_gateway_retry_delay_ms: int = Field(1000, ge=0, le=60_000)
    """The delay on which the exponential backoff between two calls is based."""
    ai_gateway_prompt_logging: bool = True
    """Whether projects may log prompts and responses. If it is false, nothing is logged."""
    ai_gateway_breaker: Literal["on", "off"] = "on"
    """Whether targets that fail, and credentials that a provider rejects, are left out for some time."""
    ai_gateway_rate_limit_rpm: int = Field(60, ge=0)
    """Requests per minute of a key without its own limit, and of an address without a key. 0: no limit."""

    openai_api_key: str = Field("", validation_alias=AliasChoices("openai_api_key", "ai_gateway_api_key"))
    openai_base_url: str = ""
    openai_api: Literal["", "chat", "responses"] = ""
    """The API of the server at OPENAI_BASE_URL.

    `chat`: it has no Responses API. `responses`: conversions use the Responses API. Empty: it has both APIs,
    and conversions use chat completions, except for tools of models since GPT-5.4.
    """
    anthropic_api_key: str = ""
    anthropic_base_url: str = ""
    gemini_api_key: str = ""
    gemini_base_url: str = ""

    @field_validator(
        "gateway_signup_domains",
        "gateway_accepted_key_peppers",
        "gateway_encryption_keys",
        "gateway_private_upstreams",
        "ai_gateway_send_operator_key",
        mode="before",
    )
    @classmethod
    def split_commas(cls, value: object) -> object:
        return (
            tuple(part.strip() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("gateway_trusted_proxies", mode="before")
    @classmethod
    def parse_networks(cls, value: object) -> object:
        return (
            tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("gateway_encryption_keys")
    @classmethod
    def check_fernet_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            Fernet(key)
        return value

    @field_validator("database_url")
    @classmethod
    def check_database(cls, value: str) -> str:
        if value and not value.startswith(("postgres://", "postgresql://")):
            raise ValueError("it must begin with postgres:// or postgresql://")
        check_url_parts(value)
        if value and not urlsplit(value).path.strip("/"):
            raise ValueError("the database name is missing; write it as postgresql://user:password@host/name")
        return value

    @field_validator("gateway_email_url")
    @classmethod
    def check_email(cls, value: str) -> str:
        check_url_parts(value)
        return value

    @field_validator("redis_url")
    @classmethod
    def check_redis(cls, value: str, info: ValidationInfo) -> str:
        # An invalid DATABASE_URL is absent from `info.data`. It has an error of its own.
        if value and info.data.get("database_url") == "":
            raise ValueError("REDIS_URL needs DATABASE_URL: Redis without PostgreSQL would lose records")
        if value and not value.startswith(("redis://", "rediss://")):
            raise ValueError("it must begin with redis:// or rediss://")
        check_url_parts(value)
        parts = urlsplit(value)
        if unknown := dict(parse_qsl(parts.query, keep_blank_values=True)).keys() - (
            TLS_FILES if parts.scheme == "rediss" else ()
        ):
            raise ValueError(
                f"unknown options: {', '.join(sorted(unknown))}; rediss:// has {', '.join(TLS_FILES)}"
            )
        return value

    @field_validator("gateway_signup")
    @classmethod
    def check_signup(cls, value: str, info: ValidationInfo) -> str:
        if value == "domains" and not info.data["gateway_signup_domains"]:
            raise ValueError("GATEWAY_SIGNUP=domains needs GATEWAY_SIGNUP_DOMAINS")
        if value in ("open", "domains") and info.data.get("ai_gateway_auth") == "open":
            raise ValueError(
                "AI_GATEWAY_AUTH=open is for a gateway of one tenant, so people cannot sign up: set "
                "GATEWAY_SIGNUP to invite or closed, or AI_GATEWAY_AUTH to required"
            )
        return value

    @field_validator("gateway_trusted_proxies")
    @classmethod
    def check_trusted_proxies(
        cls, value: tuple[IPv4Network | IPv6Network, ...], info: ValidationInfo
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        trusts_all = any(network.prefixlen == 0 for network in value)
        if trusts_all and info.data.get("ai_gateway_auth") == "open":
            raise ValueError(
                "AI_GATEWAY_AUTH=open limits callers by their address, and GATEWAY_TRUSTED_PROXIES trusts "
                "every address to name another one: list only the networks of your proxies"
            )
        return value

    @field_validator("openai_api_key", "anthropic_api_key", "gemini_api_key")
    @classmethod
    def check_provider_key(cls, value: str) -> str:
        if value.startswith("sk-gw_"):
            raise ValueError(
                "it is a key of this gateway, which no provider may receive: set the provider's own key"
            )
        return value

    def variable(self, name: str) -> str:
        """Return a variable that the config file names; empty if it is not set."""
        file = self.model_config.get("env_file")
        stored = dotenv_values(file) if isinstance(file, str) else {}
        return os.environ.get(name) or stored.get(name) or ""

    @property
    def public_url(self) -> str:
        """The URL that people and clients use, without a trailing slash."""
        return (self.gateway_public_url or f"http://localhost:{self.port}").rstrip("/")

    @property
    def allows_anonymous(self) -> bool:
        return self.ai_gateway_auth == "open"

    @property
    def signup_mode(self) -> str:
        return self.gateway_signup or ("closed" if self.allows_anonymous else "open")

    @property
    def listens_on_loopback_only(self) -> bool:
        return self.gateway_host in ("127.0.0.1", "localhost", "::1")

    @property
    def static_root(self) -> Path:
        """Directory of the collected static files."""
        return (self.gateway_static_dir or self.gateway_data_dir / "static").absolute()

    @property
    def sqlite_path(self) -> Path:
        return (self.database_path or self.gateway_data_dir / "gateway.sqlite3").absolute()


def check_url_parts(url: str) -> None:
    """Raise ValueError if a URL was parsed wrongly because its password has special characters.

    The message does not repeat the URL, which contains a password. The characters @ and % in a password are
    not ambiguous and are accepted.
    """
    try:
        parts = urlsplit(url)
        ends_early = parts.port == 0 or bool(parts.fragment)
    except ValueError:
        ends_early = True
    else:
        ends_early = ends_early or ("@" not in parts.netloc and "@" in parts.path + parts.query)
    if ends_early:
        raise ValueError(
            "its host or port is not valid. Write special characters of the user name and the password as "
            "%XX: / as %2F, # as %23, ? as %3F, [ as %5B, ] as %5D, @ as %40, : as %3A, % as %25"
        )


@lru_cache(maxsize=1)
def load() -> Environment:
    """Return the environment of this process. If it is invalid, print all errors and exit with status 2."""
    try:
        env = Environment()
    except ValidationError as error:
        for details in error.errors():
            name = "_".join(str(part) for part in details["loc"]).upper()
            print(f"configuration error: {name or 'environment'}: {details['msg']}", file=sys.stderr)
        raise SystemExit(2) from None
    env.gateway_data_dir.mkdir(parents=True, exist_ok=True)
    return with_secrets(env)


def with_secrets(env: Environment) -> Environment:
    """Read secrets that the environment does not set from a file in the data directory.

    The first start creates the file. If the gateway runs on several machines, all must have the same secrets,
    so GATEWAY_SECRET_KEY, GATEWAY_KEY_PEPPER and GATEWAY_ENCRYPTION_KEYS must be set.
    """
    if env.gateway_secret_key and env.gateway_key_pepper and env.gateway_encryption_keys:
        return env
    path = secrets_file(env)
    if not path.exists():
        create_private_file(path, json.dumps(new_secrets(), indent=1))
    stored = json.loads(path.read_text())
    return env.model_copy(
        update={
            "gateway_secret_key": env.gateway_secret_key or stored["secret_key"],
            "gateway_key_pepper": env.gateway_key_pepper or stored["key_pepper"],
            "gateway_accepted_key_peppers": env.gateway_accepted_key_peppers
            or tuple(stored.get("accepted_key_peppers", ())),
            "gateway_encryption_keys": env.gateway_encryption_keys or tuple(stored["encryption_keys"]),
        }
    )


def secrets_file(env: Environment) -> Path:
    return env.gateway_data_dir / "secrets.json"


def new_secrets() -> dict[str, str | list[str]]:
    return {
        "secret_key": secrets.token_urlsafe(48),
        "key_pepper": secrets.token_urlsafe(32),
        "encryption_keys": [Fernet.generate_key().decode()],
    }


def create_private_file(path: Path, text: str) -> None:
    """Create a file with PRIVATE_FILE_MODE atomically. If the file exists, it is not changed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()

"""The environment variables that the gateway reads, with their types and defaults."""

import os
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

BASE_DIR = Path(__file__).resolve().parent.parent.parent

DEFAULT_CONFIG_FILE = Path("config/proxy-config.yaml")
"""The config file that is read from the working directory if it exists and AI_GATEWAY_CONFIG is not set."""

GATEWAY, WEB, ADMIN = SURFACES = ("gateway", "web", "admin")
"""What a process can serve: the APIs, the pages, and the admin of the operator."""

CommaList = Annotated[tuple[str, ...], NoDecode]


def existing(file: Path) -> Path | None:
    return file if file.is_file() else None


class Variables(BaseSettings):
    """Environment variables. The name of a field is the name of its variable in lower case.

    A validation alias lists all names of a variable. Fields are validated in the order of their definition,
    so a field must be defined after the fields on which its validator depends.
    """

    model_config = SettingsConfigDict(
        env_file=os.environ.get("AI_GATEWAY_ENV_FILE", ".env"), extra="ignore", env_ignore_empty=True
    )
    _mask_wrapped: ClassVar[bool] = True
    """Django asks every setting for this attribute on every access.

    If it is missing, pydantic takes some microseconds to say so.
    """

    port: int = Field(8080, ge=1, le=65535)
    gateway_host: str = Field("127.0.0.1", validation_alias=AliasChoices("gateway_host", "host"))
    gateway_surfaces: CommaList = SURFACES
    gateway_admin_port: int | None = Field(None, ge=1, le=65535)
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

    jwt_secret: str = ""
    session_secret: str = ""
    gateway_secret_key: str = ""
    gateway_key_pepper: str = ""
    gateway_accepted_key_peppers: CommaList = ()
    """Peppers that are accepted besides `gateway_key_pepper` while the pepper is rotated."""
    gateway_encryption_keys: CommaList = ()
    gateway_price_file_keys: CommaList = ()
    """Public keys (Ed25519, base64) that may sign price files."""

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
    google_client_id: str = ""
    google_client_secret: str = ""
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

    ai_gateway_config: Path | None = Field(default_factory=lambda: existing(DEFAULT_CONFIG_FILE))
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

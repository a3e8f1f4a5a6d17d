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

    The docstrings of the fields are the table in `docs/configuration.md`.

    A validation alias lists all names of a variable. Fields are validated in the order of their definition,
    so a field must be defined after the fields on which its validator depends.
    """

    model_config = SettingsConfigDict(
        env_file=os.environ.get("AI_GATEWAY_ENV_FILE", ".env"), extra="ignore", env_ignore_empty=True
    )
    _mask_wrapped: ClassVar[bool] = True
    """Django asks every setting for this attribute on every access.

    If it is missing, the access takes some microseconds in pydantic.
    """

    port: int = Field(8080, ge=1, le=65535)
    """The port to listen on. `--listen HOST:PORT` sets it and the address."""
    gateway_host: str = Field("127.0.0.1", validation_alias=AliasChoices("gateway_host", "host"))
    """The address to listen on. `0.0.0.0`: all addresses, as `--listen :PORT`."""
    gateway_surfaces: CommaList = SURFACES
    """What the process serves: `gateway` (the model APIs and the management API), `web` (the pages and the
    management API), `admin` (the admin of the operator). `/health`, `/ready` and `/metrics` are always
    served.

    Default: `gateway,web,admin`.
    """
    gateway_admin_port: int | None = Field(None, ge=1, le=65535)
    """A separate port for the admin, in the same process and at the same address.

    The admin is then served only at this port, and the other surfaces only at `PORT`.
    """
    gateway_public_url: str = ""
    """The URL that people use, without a path.

    If it begins with `https://`, the gateway sets secure cookies, and for pages redirects HTTP to HTTPS
    and sends HSTS.

    Default: `http://localhost:PORT`.
    """
    dashboard_url: str = ""
    """A site whose pages may call the gateway [from a browser](api.md#web-pages), with keys of every
    project, and [without a key](api.md#callers-without-a-key) if `AI_GATEWAY_AUTH` is `open`.
    """
    gateway_data_dir: Path = BASE_DIR / "var"
    """Directory of the SQLite database, the generated secrets and the schedule of a Celery worker.

    Default: `var/`.
    """
    gateway_static_dir: Path | None = None
    """Directory of the collected static files.

    Several installations of one version can share it, and an image can contain it.

    Default: `static` in the data directory.
    """
    gateway_debug: bool = False
    """Django's debug pages. Never turn them on for a gateway that others can reach."""
    gateway_log_level: Literal["debug", "info", "warning", "error"] = "info"
    """`debug`, `info`, `warning` or `error`."""
    gateway_drain_s: float = Field(0, ge=0)
    """How long the process still accepts requests after SIGTERM, while `/ready` answers 503."""
    gateway_shutdown_timeout_s: int = Field(
        30,
        ge=1,
        validation_alias=AliasChoices("gateway_shutdown_timeout_s", "gateway_streams_finish_s"),
    )
    """How long requests may continue after `GATEWAY_DRAIN_S`.

    Requests that remain then get a 503 with `retry-after`, and streams an error event.
    """

    database_url: str = ""
    """`postgresql://user:password@host:5432/name`.

    [Special characters](#urls-with-special-characters). [Settings that the server
    needs](ledger.md#durability).

    Default: SQLite in the data directory.
    """
    database_path: Path | None = Field(None, validation_alias=AliasChoices("database_path", "db_path"))
    """The path of the SQLite file. Its folder is created.

    Default: in the data directory.
    """
    gateway_database_timeout_s: float = Field(5, gt=0)
    """How long a new connection to PostgreSQL may take.

    If a statement runs longer and the server answers no other query either, the statement is aborted.
    """
    redis_url: str = ""
    """`redis://user:password@host:6379/0`, or [`rediss://`](deployment.md#redis-over-tls): the ledger of
    several processes, Celery's broker, cache and channel layer; needs `DATABASE_URL`. [Settings that the
    server needs](deployment.md#redis).
    """
    gateway_redis_timeout_ms: int = Field(50, gt=0)
    """How long a request waits for Redis before it is treated as down."""
    gateway_redis_down_budgets: Literal["closed", "open"] = "closed"
    """Requests with a hard budget while Redis is down: `closed` answers 503, `open` serves them and counts
    them later.
    """
    gateway_redis_down_limits: Literal["closed", "open"] = "open"
    """Requests with rate limits but without a hard budget while Redis is down: `open` serves them, and each
    process counts separately; `closed` answers 503.
    """

    jwt_secret: str = ""
    """Another name of `GATEWAY_SECRET_KEY`. If several of its three names are set, they must be equal."""
    session_secret: str = ""
    """Another name of `GATEWAY_SECRET_KEY`."""
    gateway_secret_key: str = ""
    """The key of sessions.

    Set it, `GATEWAY_KEY_PEPPER` and `GATEWAY_ENCRYPTION_KEYS` if the gateway runs on several machines.

    Default: generated at the first start, in `secrets.json` in the data directory.
    """
    gateway_key_pepper: str = ""
    """The HMAC key of API keys.

    Default: generated, as `GATEWAY_SECRET_KEY`.
    """
    gateway_accepted_key_peppers: CommaList = ()
    """Comma-separated peppers that are accepted besides `GATEWAY_KEY_PEPPER` while it is
    [rotated](operations.md#rotation-of-secrets).
    """
    gateway_encryption_keys: CommaList = ()
    """Comma-separated Fernet keys for stored secrets, of which the first one encrypts.

    Default: generated, as `GATEWAY_SECRET_KEY`.
    """
    gateway_price_file_keys: CommaList = ()
    """Comma-separated public keys (Ed25519, base64) that may sign [price files](pricing.md#price-files)."""

    ai_gateway_auth: Literal["required", "open"] = "required"
    """`open`: callers need [no key](api.md#callers-without-a-key), for a gateway of one tenant.

    The gateway then does not start if `GATEWAY_SIGNUP` is `open` or `domains`, or if
    `GATEWAY_TRUSTED_PROXIES` contains every address.
    """
    gateway_trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    """Comma-separated networks of proxies in front of the gateway (`10.0.0.0/8`): the client IP is the
    rightmost address of `X-Forwarded-For` that is in none of them.
    """

    gateway_operator_email: str = "operator@localhost"
    """The e-mail address of the operator, whom the first start creates."""
    gateway_operator_password: str = ""
    """The password of the operator.

    Default: generated, and printed by the first start.
    """
    gateway_signup_domains: CommaList = ()
    """The comma-separated domains of `GATEWAY_SIGNUP=domains`."""
    gateway_signup: Literal["", "open", "domains", "invite", "closed"] = ""
    """Who may sign up: `open` (everybody), `domains` (new accounts and new addresses only at
    `GATEWAY_SIGNUP_DOMAINS`), `invite`, `closed`.

    Default: `open`; `closed` with `AI_GATEWAY_AUTH=open`.
    """
    google_client_id: str = ""
    """The OAuth client for sign-in with Google. It needs `GOOGLE_CLIENT_SECRET`."""
    google_client_secret: str = ""
    """The secret of `GOOGLE_CLIENT_ID`."""
    gateway_email_url: str = "console://"
    """`smtp://user:password@host:587` (STARTTLS) or `smtps://...`; `console://` prints e-mail to standard
    output. [Special characters](#urls-with-special-characters).
    """
    gateway_email_from: str = "gateway@localhost"
    """The sender of e-mail."""

    gateway_connect_timeout_s: float = Field(10, gt=0)
    """How long a new connection to a provider may take."""
    gateway_first_chunk_timeout_s: float | None = Field(None, gt=0)
    """How long a provider may take, from the start of a call, until the first data of a stream or the
    headers of another response. Keep-alives are not data. `timeout` of a target replaces it for streams,
    and bounds the whole call otherwise.

    Default: `timeout` of the config file: 300.
    """
    gateway_idle_timeout_s: float | None = Field(None, gt=0)
    """How long a provider may send nothing, or nothing but keep-alives, within a response.

    Default: `timeout` of the config file: 300.
    """
    gateway_keepalive_after_s: float = Field(10, gt=0)
    """How long a client waits for the start of a stream until it gets [status 200 and
    keep-alives](api.md#slow-streams).
    """
    gateway_total_timeout_s: float = Field(3600, gt=0)
    """How long the calls and the response of one request may take in all, with retries and however slowly
    the client reads.
    """
    gateway_max_concurrent_requests: int = Field(2000, gt=0)
    """The number of requests with a key that a process serves at the same time.

    It answers further requests with 503 ([deployment.md](deployment.md#overload)).
    """
    gateway_max_body_bytes: int = Field(32 * 1024 * 1024, gt=0)
    """Larger bodies are rejected while they arrive, with 413.

    The limit applies to the compressed and to the decoded size.

    Default: 32 MiB.
    """
    gateway_max_header_bytes: int = Field(64 * 1024, gt=0)
    """Larger headers, with the URL, are rejected while they arrive, with 400.

    Default: 64 KiB.
    """
    gateway_max_header_count: int = Field(200, gt=0)
    """Requests with more header fields are rejected with 400."""
    gateway_private_upstreams: CommaList | None = None
    """Comma-separated hosts in private networks that projects may use as base URLs.

    Default: loopback if the gateway listens on loopback only and `GATEWAY_PUBLIC_URL` names loopback too;
    otherwise none.
    """
    gateway_unauthenticated_rpm: int = Field(300, ge=0)
    """The limit on requests without a valid key per minute and client IP (IPv6: per /64), in each process.

    Further requests get 429. 0: no limit. Requests with valid keys are not affected.
    """
    gateway_stale_config_s: int = Field(600, ge=0)
    """How long cached configuration, such as recently used keys, is used while the database is down."""
    gateway_api_rpm: int = Field(300, ge=0)
    """Requests per minute of one caller of the [management API](api.md#management-api), and five times as
    many of one address. 0: no limit.
    """
    gateway_open_project_creation: bool = False
    """`true`: anyone can create a project over the management API, without a token."""
    gateway_metrics_token: str = ""
    """Bearer token that `/metrics` requires."""
    gateway_retention_days: int | None = Field(None, ge=7, le=36_600)
    """How many days usage records are kept, at least 7; without a value, they are kept forever.

    Daily sums always stay ([ledger.md](ledger.md#retention)).
    """

    gateway_cache_max_mb: int = Field(64, ge=0)
    """The memory of the [response cache](api.md#response-cache) in MB: of the process, or with Redis of
    each project. 0: nothing is stored.
    """
    gateway_unpriced: Literal["closed", "open"] = "closed"
    """Requests under a hard budget for a model without a known price, or with
    [fields](pricing.md#what-a-hard-budget-does-not-pay-for) whose cost is not known: `closed` denies them,
    `open` serves them and records the known part of their cost.
    """
    gateway_max_tokens: Literal["refuse", "clamp"] = "refuse"
    """Requests whose output limit costs more than remains in a hard budget: `refuse` denies them, `clamp`
    lowers the limit to what the budget can pay for.
    """
    gateway_failpoint: str = ""
    """For tests only: the place at which the process kills itself ([ledger.md](ledger.md#failpoints))."""

    ai_gateway_config: Path | None = Field(default_factory=lambda: existing(DEFAULT_CONFIG_FILE))
    """The config file with model routes (YAML), also `--config FILE`.

    Default: `config/proxy-config.yaml` in the working directory, if it exists.
    """
    ai_gateway_model_routes: str = ""
    """`model:http://host/v1,model2:https://...`: single models at OpenAI-compatible URLs.

    [Which of them receive the key](#which-urls-receive-the-operators-key).
    """
    ai_gateway_send_operator_key: CommaList = ()
    """Comma-separated models of `AI_GATEWAY_MODEL_ROUTES` whose URLs receive `OPENAI_API_KEY`, on any host.
    """
    ai_gateway_upstream: str = ""
    """Another name of `OPENAI_BASE_URL`. If both are set, this one applies."""
    ai_gateway_retry_attempts: int = Field(3, ge=0, le=10)
    """How often a failed call of a target is repeated (0 to 10)."""
    ai_gateway_retry_delay_ms: int = Field(1000, ge=0, le=60_000)
    """The delay on which the exponential backoff between two calls is based."""
    ai_gateway_prompt_logging: bool = True
    """`false`: no project can log prompts and responses, whatever its settings are ([api.md](api.md#logs)).
    """
    ai_gateway_breaker: Literal["on", "off"] = "on"
    """`off`: failing targets and rejected credentials are called like all others.

    With `AI_GATEWAY_RETRY_ATTEMPTS=0`, the client then sees every failure of its provider.
    """
    ai_gateway_rate_limit_rpm: int = Field(60, ge=0)
    """Requests per minute of keys that have no limit of their own, and of each address of [callers without
    a key](api.md#callers-without-a-key). 0: no limit.
    """

    openai_api_key: str = Field("", validation_alias=AliasChoices("openai_api_key", "ai_gateway_api_key"))
    """The operator's key for OpenAI or a compatible server."""
    openai_base_url: str = ""
    """The [base URL](#base-urls-of-providers) of the operator's account at OpenAI or a compatible server.

    Default: OpenAI's own.
    """
    openai_api: Literal["", "chat", "responses"] = ""
    """The API of the server at `OPENAI_BASE_URL`.

    `chat`: it has no Responses API, so requests of Responses clients are converted to chat completions.
    `responses`: requests of clients of other formats are converted to the Responses API. Empty: the
    server has both, and conversions use chat completions, except for requests with tools for models since
    GPT-5.4, which need the Responses API. The field `api` of a model in the config file takes precedence.
    """
    anthropic_api_key: str = ""
    """The operator's key for Anthropic."""
    anthropic_base_url: str = ""
    """The [base URL](#base-urls-of-providers) of the operator's account at Anthropic.

    Default: Anthropic's own.
    """
    gemini_api_key: str = ""
    """The operator's key for Gemini."""
    gemini_base_url: str = ""
    """The [base URL](#base-urls-of-providers) of the operator's account at Google.

    Default: Google's own.
    """

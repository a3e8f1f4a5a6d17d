"""The environment of a gateway process: validated variables, and what follows from them."""

import base64
import os
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from dotenv import dotenv_values
from pydantic import ValidationInfo, field_validator

from gateway_project.env.variables import ADMIN, SURFACES, Variables

TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
"""Options of a `rediss://` URL that redis-py, Celery and the ledger all support."""


class Environment(Variables):
    """Variables whose values are valid.

    There is no validator of the whole model: it would run only if all fields are valid, and so its errors
    would be reported late.
    """

    @field_validator(
        "gateway_surfaces",
        "gateway_signup_domains",
        "gateway_accepted_key_peppers",
        "gateway_encryption_keys",
        "gateway_price_file_keys",
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

    @field_validator("gateway_price_file_keys")
    @classmethod
    def check_price_file_keys(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for key in value:
            try:
                Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True))
            except ValueError:
                raise ValueError("each key must be an Ed25519 public key in base64") from None
        return value

    @field_validator("gateway_surfaces")
    @classmethod
    def check_surfaces(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or set(value) - set(SURFACES):
            raise ValueError(f"it must be a comma-separated list of {', '.join(SURFACES)}")
        return value

    @field_validator("gateway_admin_port")
    @classmethod
    def check_admin_port(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value == info.data.get("port"):
            raise ValueError(
                "it must differ from PORT, which serves the admin if GATEWAY_ADMIN_PORT is not set"
            )
        if value is not None and ADMIN not in info.data.get("gateway_surfaces", SURFACES):
            raise ValueError("GATEWAY_SURFACES does not contain admin")
        return value

    @field_validator("gateway_public_url", "dashboard_url")
    @classmethod
    def check_site(cls, value: str) -> str:
        """Return the URL of a site without the slash at its end."""
        parts = urlsplit(value)
        if value and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise ValueError("it must be an address such as https://gateway.example.org")
        if parts.query or parts.fragment or parts.username:
            raise ValueError("it must not contain a user name, a query or a fragment")
        return value.rstrip("/")

    @field_validator("gateway_public_url")
    @classmethod
    def check_public_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.path:
            raise ValueError(
                f"it has the path {parts.path}, and the gateway must be at the root of a host: "
                f"use a host name of its own, such as {parts.scheme}://llm.{parts.netloc}"
            )
        return value

    @field_validator("gateway_secret_key")
    @classmethod
    def choose_secret_key(cls, value: str, info: ValidationInfo) -> str:
        named = {name: info.data[name.lower()] for name in ("JWT_SECRET", "SESSION_SECRET")}
        given = {name: secret for name, secret in {"GATEWAY_SECRET_KEY": value, **named}.items() if secret}
        if len(set(given.values())) > 1:
            raise ValueError(
                f"{' and '.join(given)} have different values, although all of them are the key of sessions: "
                "set one of them"
            )
        return next(iter(given.values()), "")

    @field_validator("google_client_secret")
    @classmethod
    def check_google_pair(cls, value: str, info: ValidationInfo) -> str:
        if bool(value) != bool(info.data["google_client_id"]):
            present, missing = ("SECRET", "ID") if value else ("ID", "SECRET")
            raise ValueError(f"GOOGLE_CLIENT_{present} is set, but GOOGLE_CLIENT_{missing} is missing")
        return value

    @field_validator("ai_gateway_config")
    @classmethod
    def check_config_file(cls, value: Path | None) -> Path | None:
        if value and not value.is_file():
            raise ValueError(f"there is no file {value}")
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

    @field_validator("ai_gateway_upstream", "openai_base_url", "anthropic_base_url", "gemini_base_url")
    @classmethod
    def check_base_url(cls, value: str) -> str:
        if value and not is_http_url(value):
            raise ValueError("it must be an http or https address, such as https://llm.example.org/v1")
        return value

    @field_validator("ai_gateway_model_routes")
    @classmethod
    def check_model_routes(cls, value: str) -> str:
        for entry in filter(None, (part.strip() for part in value.split(","))):
            name, colon, address = entry.rpartition(":http")
            if not name or not colon or not is_http_url(f"http{address}"):
                raise ValueError(
                    "it must be a comma-separated list of model:address, such as "
                    "llama:http://localhost:8000/v1,gpt-6-luna:https://api.openai.com/v1"
                )
        return value

    @field_validator("openai_api_key", "anthropic_api_key", "gemini_api_key")
    @classmethod
    def check_provider_key(cls, value: str) -> str:
        if value.startswith(("sk-gw_", "pat_gw_")):
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
    def has_limited_surfaces(self) -> bool:
        """True if this process does not serve everything at PORT."""
        return self.gateway_admin_port is not None or set(self.gateway_surfaces) != set(SURFACES)

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


def is_http_url(text: str) -> bool:
    """Return whether a text is an http or https URL with a host and a valid port."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


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

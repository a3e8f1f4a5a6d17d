"""The address of the Redis server: the parsed `REDIS_URL`."""

import ssl
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from billing.ledger.redis.client.protocol import Command

DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A parsed `REDIS_URL`.

    `tls` is None without TLS. Otherwise it contains the URL's parameters that name certificate files, which
    have the same names as in redis-py.
    """

    host: str
    port: int
    credentials: tuple[str, ...]
    database: int
    tls: dict[str, str] | None

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Parse `redis://user:password@host:port/database`. The scheme `rediss` means TLS."""
        parts = urlsplit(url)
        return cls(
            parts.hostname or "localhost",
            parts.port or DEFAULT_PORT,
            tuple(unquote(part) for part in (parts.username, parts.password) if part),
            int(parts.path.strip("/") or 0),
            dict(parse_qsl(parts.query)) if parts.scheme == "rediss" else None,
        )

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings; None without TLS.

        The server's certificate is always verified. Trusted authorities are those of the system, and those in
        the file that the URL names.
        """
        if self.tls is None:
            return None
        context = ssl.create_default_context()
        if "ssl_ca_certs" in self.tls:
            context.load_verify_locations(self.tls["ssl_ca_certs"])
        if "ssl_certfile" in self.tls:
            context.load_cert_chain(self.tls["ssl_certfile"], self.tls.get("ssl_keyfile"))
        return context

    def setup_commands(self) -> list[Command]:
        """Return the commands that every new connection must send first."""
        commands: list[Command] = []
        if self.credentials:
            commands.append(("AUTH", *self.credentials))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands

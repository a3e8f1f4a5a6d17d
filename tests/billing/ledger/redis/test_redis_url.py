"""REDIS_URL can name a server with accounts or TLS, but not a cluster. All Redis clients agree on it."""

import asyncio
import datetime as dt
import ipaddress
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from billing.ledger.redis.client.client import RedisClient, UnsupportedRedis
from billing.ledger.redis.client.protocol import RedisUnavailable
from gateway_project.env import Environment
from tests.support.databases import Server, valkey_server
from tests.support.gateway_server import ROOT

USERS = """
import asyncio, json, sys
from tests.support import environment
environment.isolate()
from channels.layers import get_channel_layer
from django.core.cache import cache
from billing.ledger.redis import queries
from gateway_project.celery import app

async def channel():
    layer = get_channel_layer()
    await layer.send("a", {"type": "b"})
    return (await layer.receive("a"))["type"] == "b"

def celery():
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        return connection.connected

def cached():
    cache.set("a", "b")
    return cache.get("a") == "b"

users = {
    "ledger": lambda: queries.project_ids() == [],
    "cache": cached,
    "channels": lambda: asyncio.run(channel()),
    "celery": celery,
}
answers = {}
for name, ask in users.items():
    try:
        answers[name] = ask()
    except Exception as error:
        answers[name] = type(error).__name__
print(json.dumps(answers))
"""
"""Calls every user of redis-py, with the gateway's settings."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with valkey_server() as server:
        yield server


class Authority:
    def __init__(self, home: Path, name: str) -> None:
        self.home, self.name = home, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = home / f"{name}.pem"
        self.file.write_bytes(
            self.sign(name, self.key.public_key(), None).public_bytes(serialization.Encoding.PEM)
        )

    def sign(self, subject: str, key: ec.EllipticCurvePublicKey, host: str | None) -> x509.Certificate:
        """Sign a certificate for an address, or for a certificate authority if `host` is None."""
        now = dt.datetime.now(dt.UTC)
        issuer, owner = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (self.name, subject)
        )
        begins, ends = now - dt.timedelta(1), now + dt.timedelta(1)
        builder = x509.CertificateBuilder(issuer, owner, key, x509.random_serial_number(), begins, ends)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=host is None, path_length=None), critical=True
        )
        if host is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, host: str) -> tuple[Path, Path]:
        """Issue a certificate, and return its file and the file of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate_file, key_file = (
            self.home / f"{self.name}-{host}.pem",
            self.home / f"{self.name}-{host}.key",
        )
        certificate_file.write_bytes(
            self.sign("server", key.public_key(), host).public_bytes(serialization.Encoding.PEM)
        )
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key_file.write_bytes(key.private_bytes(*form))
        return certificate_file, key_file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@asynccontextmanager
async def behind_tls(
    server: Server, authority: Authority, host: str = "127.0.0.1", clients: Authority | None = None
) -> AsyncIterator[int]:
    """Yield the port of a TLS proxy with a certificate for `host`.

    With `clients`, it requires client certificates of that authority.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients.file if clients else None)
    context.load_cert_chain(*authority.issue(host))
    context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
    tasks: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection(
            "127.0.0.1", int(server.url.split(":")[2].split("/")[0])
        )
        tasks.extend(
            asyncio.create_task(forward(*ends)) for ends in ((reader, back_writer), (back_reader, writer))
        )

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


async def ping(url: str) -> bytes:
    """Return the reply to a PING of the ledger's own client."""
    store = RedisClient(url, timeout_s=2)
    try:
        await store.open()
        result: bytes = await store.command_slow("PING")
        return result
    finally:
        await store.close()


async def users(url: str) -> dict[str, object]:
    """Return the results of all other Redis clients of the gateway, by name."""
    variables = {
        "GATEWAY_TEST_DATABASE_URLS": "postgresql://nobody@127.0.0.1:1/none",
        "GATEWAY_TEST_REDIS_URLS": url,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-W", "ignore", "-c", USERS]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return results


ALL = {"ledger": True, "cache": True, "channels": True, "celery": True}


@pytest.fixture
def short_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("billing.ledger.redis.client.client.CONNECT_TIMEOUT_S", 1)


async def test_authority_named_by_the_url_is_trusted(server: Server, authority: Authority) -> None:
    async with behind_tls(server, authority) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}"
        assert await ping(url) == b"PONG"
        assert await users(url) == ALL


async def test_certificate_of_an_unknown_authority_is_rejected(
    server: Server, authority: Authority, short_connect_timeout: None
) -> None:
    async with behind_tls(server, authority) as port:
        for options in ("", f"?ssl_ca_certs={Authority(authority.home, 'another').file}"):
            with pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
                await ping(f"rediss://127.0.0.1:{port}/0{options}")
            assert True not in (await users(f"rediss://127.0.0.1:{port}/0{options}")).values()


async def test_certificate_for_another_host_is_rejected(
    server: Server, authority: Authority, short_connect_timeout: None
) -> None:
    async with behind_tls(server, authority, host="10.0.0.1") as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}"
        with pytest.raises(RedisUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await ping(url)
        assert True not in (await users(url)).values()


async def test_client_certificate_is_presented(server: Server, authority: Authority) -> None:
    clients = Authority(authority.home, "clients")
    certificate, key = clients.issue("127.0.0.2")
    async with behind_tls(server, authority, clients=clients) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.file}&ssl_certfile={certificate}&ssl_keyfile={key}"
        assert await ping(url) == b"PONG"
        assert await users(url) == ALL


async def test_url_encoded_user_and_password_are_decoded(server: Server, short_connect_timeout: None) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "gate", "on", ">p@ss:w/rd?", "~*", "&*", "+@all")
        address = server.url.removeprefix("redis://")
        url = f"redis://gate:p%40ss%3Aw%2Frd%3F@{address}"
        assert await ping(url) == b"PONG"
        assert await users(url) == ALL
        client.execute_command("ACL", "SETUSER", "default", "resetpass", ">secret")
        try:
            assert await ping(f"redis://:secret@{address}") == b"PONG"
            with pytest.raises(RedisUnavailable, match="WRONGPASS"):
                await ping(f"redis://gate:wrong@{address}")
            with pytest.raises(RedisUnavailable, match="NOAUTH"):
                await ping(server.url)
        finally:
            client.execute_command("ACL", "SETUSER", "default", "nopass")


async def test_user_without_info_permission_is_accepted(server: Server) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "few", "on", ">few", "~*", "&*", "+@all", "-info", "-config")
    assert await ping(server.url.replace("redis://", "redis://few:few@")) == b"PONG"


async def test_cluster_is_rejected_at_start() -> None:
    with (
        valkey_server(options=("--cluster-enabled", "yes")) as server,
        pytest.raises(UnsupportedRedis, match="Redis Cluster"),
    ):
        await ping(server.url)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://127.0.0.1", "redis:// or rediss://"),
        ("rediss://127.0.0.1?ssl_cert_reqs=none", "unknown options: ssl_cert_reqs"),
        ("redis://127.0.0.1?ssl_ca_certs=/ca.pem", "unknown options: ssl_ca_certs"),
    ],
)
def test_unsupported_url_options_stop_the_start(
    url: str, fault: str, environment_of: Callable[[str], Environment]
) -> None:
    with pytest.raises(ValueError, match=fault):
        environment_of(url)


@pytest.fixture
def environment_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Environment]:
    def read(url: str) -> Environment:
        monkeypatch.setenv("REDIS_URL", url)
        monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/none")
        return Environment()

    return read

"""Measure the CPU time per request of the gateway, compared to a minimal relay.

The gateway checks a key and its budgets, and meters the response. The server process runs on one core; the
clients and the provider run on the other. The result is the server's user and system time, divided by the
number of requests that it has answered. Rounds with the gateway and with the relay alternate, and the median
of each is reported. Times differ from run to run, so compare the ratio of gateway and relay.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.peers import CHUNKS
from tests.support.databases import postgresql, valkey
from tests.support.gateway_server import ROOT, GatewayProcess, free_port

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
RESERVE_SETTLE_PAIRS = 6400
MESSAGES = [{"role": "user", "content": "You are terse. " * 30 + "Capital of France?"}]
BODY = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 64}
SERVER_CORE, LOAD_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


async def send_requests(port: int, request: bytes, until: float) -> int:
    """Send requests one after the other on one connection; return the number of responses with 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    responses = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await (reader.readexactly(int(length)) if length else reader.readuntil(b"\r\n0\r\n\r\n"))
        responses += 1
    writer.close()
    return responses


@dataclass(frozen=True)
class Scenario:
    name: str
    path: str
    stream: bool


SCENARIOS = (
    Scenario("non-streaming", "/v1/chat/completions", stream=False),
    Scenario("non-streaming, converted", "/v1/messages", stream=False),
    Scenario("stream", "/v1/chat/completions", stream=True),
    Scenario("stream, converted", "/v1/messages", stream=True),
)


async def load(port: int, token: str, scenario: Scenario, seconds: float) -> int:
    body = json.dumps({**BODY, "stream": scenario.stream}).encode()
    head = (
        f"POST {scenario.path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    until = time.monotonic() + seconds
    return sum(
        await asyncio.gather(*(send_requests(port, head.encode() + body, until) for _ in range(CONNECTIONS)))
    )


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def measure(pid: int, port: int, token: str, scenario: Scenario, seconds: float) -> float:
    """Return the microseconds of CPU per request."""
    before = cpu_seconds(pid)
    responses = asyncio.run(load(port, token, scenario, seconds))
    return (cpu_seconds(pid) - before) / responses * 1e6


@contextmanager
def uvicorn(app: str, core: int, **variables: str) -> Iterator[tuple[int, int]]:
    """Run an app of `peers` in its own process on one core; yield its process id and port."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        f"tests.bench.peers:{app}",
        "--port",
        str(port),
        "--loop",
        "uvloop",
        "--http",
        "httptools",
    ]
    command += ["--no-access-log", "--log-level", "error", "--lifespan", "off"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables})
    os.sched_setaffinity(process.pid, {core})
    try:
        time.sleep(1.5)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def gateway(provider: str) -> Iterator[tuple[int, int, str]]:
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir()
        running = GatewayProcess(
            data, OPENAI_BASE_URL=provider, OPENAI_API_KEY="sk-bench", AI_GATEWAY_RATE_LIMIT_RPM="100000000"
        ).start()
        assert running.process is not None
        os.sched_setaffinity(running.process.pid, {SERVER_CORE})
        token = running.manage(
            "create_api_key", "bench", "all", "--daily-budget", "1000000", "--monthly-budget", "10000000"
        ).split()[-1]
        try:
            yield running.process.pid, running.port, token
        finally:
            running.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="seconds of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with uvicorn("provider", LOAD_CORE) as (_, provider_port):
        provider = f"http://127.0.0.1:{provider_port}"
        with uvicorn("relay", SERVER_CORE, BENCH_PROVIDER=provider) as relay, gateway(provider) as gate:
            print("CPU (us)                  bare relay    gateway    ratio    gateway per chunk")
            for scenario in SCENARIOS:
                compare(scenario, relay, gate, options.rounds, options.seconds)
    compare_ledgers()


def compare(
    scenario: Scenario, relay: tuple[int, int], gate: tuple[int, int, str], rounds: int, seconds: float
) -> None:
    pairs = [
        (measure(*relay, "none", scenario, seconds), measure(*gate, scenario, seconds)) for _ in range(rounds)
    ]
    bare, ours = (statistics.median(values) for values in zip(*pairs, strict=True))
    chunk = f"{ours / CHUNKS:10.1f}" if scenario.stream else ""
    print(f"{scenario.name:24} {bare:10.0f} {ours:10.0f} {ours / bare:8.2f} {chunk:>12}", flush=True)


def compare_ledgers() -> None:
    """Measure a reservation and its settlement on each store, without the rest of the gateway."""
    print("\nreserve and settle (us)        CPU, 32 at once    p50 alone    p99 alone")
    with postgresql() as database_url, valkey() as redis_url:
        print_ledger_timings("SQLite", {})
        print_ledger_timings("PostgreSQL", {"DATABASE_URL": database_url})
        print_ledger_timings("PostgreSQL and Redis", {"DATABASE_URL": database_url, "REDIS_URL": redis_url})


def print_ledger_timings(name: str, servers: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as data:
        base = {
            "PATH": os.environ["PATH"],
            "HOME": data,
            "AI_GATEWAY_ENV_FILE": os.devnull,
            "GATEWAY_DATA_DIR": data,
            **servers,
        }
        environment = {
            **base,
            "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
            "GATEWAY_REDIS_TIMEOUT_MS": "2000",
        }
        command = [sys.executable, "-m", "tests.bench.ledger", str(RESERVE_SETTLE_PAIRS)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    print(f"{name:28} {figures['cpu']:17.0f} {figures['p50']:12.0f} {figures['p99']:12.0f}", flush=True)


if __name__ == "__main__":
    main()

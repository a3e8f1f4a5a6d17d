"""CPU per request of the gateway, with key, budgets and metering, against a bare relay in the same run.

One server process on one core, the load and the provider on the other; what the server's process used (user and system
time) is divided by the requests that it answered. Rounds alternate, and the median of each is kept: machines are noisy, so
quote ratios.
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
from pathlib import Path

from tests.process import ROOT, GatewayProcess, free_port

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
CHAT = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "system", "content": "You are terse. " * 30}, {"role": "user", "content": "Capital of France?"}],
}
SERVER_CORE, LOAD_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


async def ask(port: int, request: bytes, until: float) -> int:
    """Sends requests one after the other on one connection; returns how many were answered with 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answered = 0
    while time.monotonic() < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        await (reader.readexactly(int(length)) if length else reader.readuntil(b"\r\n0\r\n\r\n"))
        answered += 1
    writer.close()
    return answered


async def load(port: int, token: str, stream: bool, seconds: float) -> int:
    body = json.dumps({**CHAT, "stream": stream, "max_tokens": 64}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    until = time.monotonic() + seconds
    return sum(await asyncio.gather(*(ask(port, head.encode() + body, until) for _ in range(CONNECTIONS))))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def measure(pid: int, port: int, token: str, stream: bool, seconds: float) -> float:
    """Microseconds of CPU per request."""
    before = cpu_seconds(pid)
    answered = asyncio.run(load(port, token, stream, seconds))
    return (cpu_seconds(pid) - before) / answered * 1e6


@contextmanager
def uvicorn(app: str, core: int, **variables: str) -> Iterator[tuple[int, int]]:
    """A peer in a process of its own, on one core: its pid and port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", f"tests.bench.peers:{app}", "--port", str(port), "--loop", "uvloop", "--http", "httptools"]
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
        running = GatewayProcess(data, OPENAI_BASE_URL=provider, OPENAI_API_KEY="sk-bench", AI_GATEWAY_RATE_LIMIT_RPM="100000000").start()
        assert running.process is not None
        os.sched_setaffinity(running.process.pid, {SERVER_CORE})
        token = running.manage("create_api_key", "bench", "all", "--daily-budget", "1000000", "--monthly-budget", "10000000").split()[-1]
        try:
            yield running.process.pid, running.port, token
        finally:
            running.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with uvicorn("provider", LOAD_CORE) as (_, provider_port):
        provider = f"http://127.0.0.1:{provider_port}"
        with uvicorn("relay", SERVER_CORE, BENCH_PROVIDER=provider) as relay, gateway(provider) as gate:
            print("CPU per request (us)     bare relay    gateway    ratio")
            for stream in (False, True):
                rounds = [
                    (measure(*relay, "none", stream, options.seconds), measure(*gate, stream, options.seconds))
                    for _ in range(options.rounds)
                ]
                bare, ours = (statistics.median(values) for values in zip(*rounds, strict=True))
                name = "stream of 50 chunks" if stream else "one piece"
                print(f"{name:24} {bare:10.0f} {ours:10.0f} {ours / bare:8.2f}", flush=True)


if __name__ == "__main__":
    main()

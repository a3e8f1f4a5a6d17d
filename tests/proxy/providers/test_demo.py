"""Limits of the demo provider, which computes in the process that serves all clients."""

import json
import time
from typing import Any

import httpx
import pytest

from proxy.providers import demo
from tests.support.live_gateway import only_record

CHAT = {"model": "demo/chat", "messages": [{"role": "user", "content": "Hi"}]}


async def ask(path: str, **body: Any) -> tuple[int, Any]:
    response = demo.respond(path, json.dumps(body).encode())
    return response.status, json.loads(await response.read())


async def embed(**body: Any) -> tuple[int, Any]:
    return await ask("/embeddings", model="demo/embed", **body)


@pytest.mark.parametrize(
    ("count", "dimensions", "fault"),
    [
        (2_049, 1, "input has too many entries: 2049"),
        (1, 3_073, "dimensions is too large: 3073"),
        (163, 3_072, "inputs x dimensions is too large: 500736"),
        (800, 65_536, "dimensions is too large"),
        (2_048, None, "inputs x dimensions is too large"),
    ],
)
async def test_embeddings_beyond_a_limit_are_rejected_at_once(
    count: int, dimensions: int | None, fault: str
) -> None:
    started = time.monotonic()
    status, response = await embed(input=["a"] * count, dimensions=dimensions)
    assert status == 400 and fault in response["error"]["message"]
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(("count", "dimensions"), [(2_048, 244), (1, 3_072), (162, 3_072)])
async def test_embeddings_within_the_limits_are_returned(count: int, dimensions: int) -> None:
    status, response = await embed(input=["a"] * count, dimensions=dimensions)
    assert status == 200
    assert [len(entry["embedding"]) for entry in response["data"]] == [dimensions] * count


async def test_a_list_of_token_ids_is_one_input_and_may_be_long() -> None:
    status, response = await embed(input=[7] * 8_000)
    assert (status, len(response["data"])) == (200, 1)
    assert len((await embed(input=[[7, 8], [9]]))[1]["data"]) == 2


async def test_choices_times_tokens_of_a_response_are_limited() -> None:
    status, response = await ask("/chat/completions", **CHAT, n=128, max_tokens=513)
    assert status == 400 and "n x max_tokens is too large: 65664" in response["error"]["message"]
    status, response = await ask("/chat/completions", **CHAT, n=128, max_tokens=512)
    assert (status, len(response["choices"])) == (200, 128)


def test_the_demo_rejects_legacy_completions(gateway: httpx.Client) -> None:
    response = gateway.post("/v1/completions", json={"model": "demo/chat", "prompt": "Hi"})
    assert (response.status_code, only_record().outcome) == (404, "upstream_error")

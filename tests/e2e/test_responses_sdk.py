"""The official `openai` SDK on stored, compacted and background responses."""

import time
from typing import Any

import openai
import pytest

from billing.models import UsageRecord
from proxy.models import BackgroundResponse
from tests.support.live_gateway import only_record, wait_until
from tests.support.responses_provider import TEXT, ResponsesProvider
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases

MODEL = "gpt-4o-mini"
COST = 1000 * 150 + 200 * 600


@pytest.fixture(autouse=True)
def provider(upstream: LocalUpstream) -> ResponsesProvider:
    provider = ResponsesProvider()
    upstream.handler = provider.handle
    return provider


def charged_cost() -> int:
    """Wait until the background response is charged; return its cost."""
    charged = UsageRecord.objects.filter(operation="responses")
    wait_until(lambda: charged.exists() and not BackgroundResponse.objects.exists())
    return charged.get().cost_nano


def test_it_retrieves_lists_and_deletes_a_response(sdk_client: openai.OpenAI) -> None:
    created = sdk_client.responses.create(model=MODEL, input="Hi")
    retrieved = sdk_client.responses.retrieve(created.id, include=["reasoning.encrypted_content"])
    assert retrieved.output_text == created.output_text == TEXT
    (item,) = sdk_client.responses.input_items.list(created.id, order="asc", limit=5)
    assert item.id == "msg_in"
    sdk_client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{created.id}' not found"):
        sdk_client.responses.retrieve(created.id)


def test_it_compacts_and_counts(sdk_client: openai.OpenAI) -> None:
    assert sdk_client.responses.input_tokens.count(model=MODEL, input="Hi").input_tokens == 11
    history: Any = [{"role": "user", "content": "Hi"}]
    compacted = sdk_client.responses.compact(model=MODEL, input=history)
    assert compacted.object == "response.compaction" and compacted.output[-1].type == "compaction"
    assert only_record(2).output_tokens == compacted.usage.output_tokens


def test_its_polling_loop_ends(sdk_client: openai.OpenAI, provider: ResponsesProvider) -> None:
    provider.finishes_after = 2
    response = sdk_client.responses.create(model=MODEL, input="Hi", background=True)
    while response.status in {"queued", "in_progress"}:
        time.sleep(0.05)
        response = sdk_client.responses.retrieve(response.id)
    assert (response.status, response.output_text) == ("completed", TEXT)
    assert charged_cost() == COST


def test_it_cancels_a_background_response(sdk_client: openai.OpenAI) -> None:
    response = sdk_client.responses.create(model=MODEL, input="Hi", background=True)
    assert sdk_client.responses.cancel(response.id).status == "cancelled"
    assert sdk_client.responses.cancel(response.id).status == "cancelled"


def test_it_resumes_a_background_stream(sdk_client: openai.OpenAI, provider: ResponsesProvider) -> None:
    with sdk_client.responses.create(model=MODEL, input="Hi", background=True, stream=True) as stream:
        first = next(iter(stream))
    assert first.type == "response.created"
    provider.finish(first.response.id)
    rest = sdk_client.responses.retrieve(first.response.id, stream=True, starting_after=first.sequence_number)
    *_, last = rest
    assert last.type == "response.completed" and last.response.output_text == TEXT
    assert charged_cost() == COST

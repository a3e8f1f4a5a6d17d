"""The Python SDKs complete their agent loops with every model, with and without streaming."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

from tests.clients.conftest import Access, every_model
from tests.support import agent_loops
from tests.support.strict_provider.agent_script import FINISHED
from tests.support.strict_provider.provider import StrictProvider

both_ways = pytest.mark.parametrize("streamed", [False, True], ids=["complete", "streamed"])
openais_models = pytest.mark.parametrize("model", ["gpt-5.2", "gpt-5.1-codex"])


@pytest.fixture
def openai_client(access: Access) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{access.url}/v1", api_key=access.key, max_retries=0) as client:
        yield client


@pytest.fixture
def anthropic_client(access: Access) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=access.url, api_key=access.key, max_retries=0) as client:
        yield client


@pytest.fixture
def google_client(access: Access) -> Iterator[genai.Client]:
    once = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=access.url, retry_options=once)
    with genai.Client(api_key=access.key, http_options=options) as client:
        yield client


@every_model
@both_ways
def test_chat_completions(openai_client: Any, provider: StrictProvider, model: str, streamed: bool) -> None:
    assert FINISHED in agent_loops.chat_completions_loop(openai_client, model, streamed)
    assert provider.refusals == []


@every_model
@both_ways
def test_responses_without_storage(
    openai_client: Any, provider: StrictProvider, model: str, streamed: bool
) -> None:
    assert FINISHED in agent_loops.responses_loop(openai_client, model, streamed, stored=False)
    assert provider.refusals == []


@openais_models
@both_ways
def test_responses_with_storage(
    openai_client: Any, provider: StrictProvider, model: str, streamed: bool
) -> None:
    assert FINISHED in agent_loops.responses_loop(openai_client, model, streamed, stored=True)
    assert provider.refusals == []


@every_model
@both_ways
def test_messages(anthropic_client: Any, provider: StrictProvider, model: str, streamed: bool) -> None:
    assert FINISHED in agent_loops.messages_loop(anthropic_client, model, streamed)
    assert provider.refusals == []


@every_model
@both_ways
def test_two_questions_in_googles_chat(
    google_client: genai.Client, provider: StrictProvider, model: str, streamed: bool
) -> None:
    for text in agent_loops.google_chat(google_client, model, streamed):
        assert FINISHED in text
    assert provider.refusals == []

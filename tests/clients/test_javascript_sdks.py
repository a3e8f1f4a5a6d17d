"""The AI SDK and Google's SDK complete their loops with every model, with and without streaming."""

from typing import Any

import pytest

from tests.clients.conftest import MODELS
from tests.support.agents import NodeScript
from tests.support.strict_provider.agent_script import FINISHED
from tests.support.strict_provider.provider import StrictProvider

pytestmark = pytest.mark.clients

UNSUPPORTED = {("chat", "deepseek-v3.2")}
"""The SDK's OpenAI provider drops the reasoning.

Without the gateway, DeepSeek would reject the calls too.
"""


@pytest.mark.parametrize("name", ["chat", "responses", "anthropic", "google", "compatible"])
def test_the_ai_sdk_finishes_its_loop(node_script: NodeScript, provider: StrictProvider, name: str) -> None:
    models = tuple(model for model in MODELS if (name, model) not in UNSUPPORTED)
    results = node_script.run("ai_sdk.mjs", name, *models)
    assert set(results) == set(models)
    assert (unfinished(results, 1), provider.refusals) == ({}, [])


def test_googles_sdk_finishes_two_loops(node_script: NodeScript, provider: StrictProvider) -> None:
    results = node_script.run("google_genai.mjs", *MODELS)
    assert set(results) == set(MODELS)
    assert (unfinished(results, 2), provider.refusals) == ({}, [])


def unfinished(results: dict[str, dict[str, Any]], loops: int) -> dict[str, str]:
    """Return the final texts of the runs that did not finish their loops, by model and way."""
    return {
        f"{model} {way}": text
        for model, texts in results.items()
        for way, text in texts.items()
        if text.count(FINISHED) != loops
    }

"""Codex and Gemini CLI complete their loops, even if the model changes within a conversation."""

from itertools import pairwise

import pytest

from tests.clients.conftest import MODELS, every_model
from tests.support.agents import Agent, Codex, GeminiCli
from tests.support.strict_provider.agent_script import FINISHED
from tests.support.strict_provider.provider import StrictProvider

pytestmark = pytest.mark.clients

THERE_AND_BACK = (*MODELS, *reversed(MODELS[:-1]))


@every_model
def test_codex_finishes_its_loop(codex: Codex, provider: StrictProvider, model: str) -> None:
    assert_finished(codex.run(model), provider)


@every_model
def test_gemini_cli_finishes_its_loop(gemini_cli: GeminiCli, provider: StrictProvider, model: str) -> None:
    assert_finished(gemini_cli.run(model), provider)


def test_codex_continues_on_another_model_and_back(codex: Codex, provider: StrictProvider) -> None:
    assert continuations(codex, provider) == {}


def test_gemini_cli_continues_on_another_model_and_back(
    gemini_cli: GeminiCli, provider: StrictProvider
) -> None:
    assert continuations(gemini_cli, provider) == {}


def assert_finished(output: str, provider: StrictProvider) -> None:
    assert FINISHED in output, f"{provider.refusals}\n{output[-2000:]}"


def continuations(agent: Agent, provider: StrictProvider) -> dict[str, str]:
    """Change the model of one conversation several times. Return the changes that failed, and why."""
    assert_finished(agent.run(THERE_AND_BACK[0]), provider)
    failed = {}
    for before, model in pairwise(THERE_AND_BACK):
        output = agent.resume(model)
        if FINISHED not in output:
            failed[f"{before} to {model}"] = f"{provider.refusals} {output[-500:]}"
        provider.refusals.clear()
    return failed

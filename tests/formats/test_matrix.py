"""The golden matrix: every client format to every provider format, in every scenario, whole and streamed.

What is said comes from `golden/`, in the vendors' own words; what must come of it stands there too, a cell for each pair.
"""

import pytest

from proxy import conversion
from proxy.formats.neutral import ToolCall
from tests.formats.golden.cells import (
    ANSWERS,
    CODECS,
    DIRECTORY,
    REQUESTS,
    Cell,
    encoded,
    pairs,
    path_of,
    read,
    request_cell,
    streamed,
    told,
    whole_answer,
)
from tests.formats.golden.heard import heard
from tests.formats.golden.words import FORMATS, Bodies, Body

KINDS = {"requests": REQUESTS, "answers": ANSWERS}
SCENARIOS = [(kind, scenario) for kind, scenarios in KINDS.items() for scenario in scenarios]


def cells_of(scenarios: dict[str, Bodies]) -> pytest.MarkDecorator:
    """A test for each cell, named after it."""
    found = [(scenario, *pair) for scenario, bodies in scenarios.items() for pair in pairs(bodies)]
    ids = [f"{scenario}: {speaker} > {listener}" for scenario, speaker, listener, _ in found]
    return pytest.mark.parametrize(("scenario", "speaker", "listener", "body"), found, ids=ids)


def golden(kind: str, scenario: str, speaker: str, listener: str) -> Cell:
    return read(kind, scenario)[speaker, listener]


# Completeness -------------------------------------------------------------------------------------------------------------


def test_every_format_has_its_row_and_column() -> None:
    assert tuple(CODECS) == FORMATS and conversion.CODECS == CODECS


@pytest.mark.parametrize(("kind", "scenario"), SCENARIOS)
def test_every_scenario_is_said_in_every_format_or_has_no_words_there(kind: str, scenario: str) -> None:
    assert tuple(KINDS[kind][scenario]) == FORMATS


@pytest.mark.parametrize(("kind", "scenario"), SCENARIOS)
def test_no_cell_is_missing(kind: str, scenario: str) -> None:
    assert set(read(kind, scenario)) == {(speaker, listener) for speaker, listener, _ in pairs(KINDS[kind][scenario])}


def test_no_cell_is_of_a_scenario_that_is_gone() -> None:
    assert set(DIRECTORY.rglob("*.json")) == {path_of(kind, scenario) for kind, scenario in SCENARIOS}


# Cells --------------------------------------------------------------------------------------------------------------------


@cells_of(REQUESTS)
def test_a_provider_is_asked_in_its_own_words(scenario: str, speaker: str, listener: str, body: Body) -> None:
    assert request_cell(speaker, listener, body) == golden("requests", scenario, speaker, listener)


@cells_of(ANSWERS)
def test_a_client_hears_it_in_its_own_words(scenario: str, speaker: str, listener: str, body: Body) -> None:
    assert told(whole_answer(listener, speaker, body)) == golden("answers", scenario, speaker, listener)["heard"]


@cells_of(ANSWERS)
def test_a_client_hears_the_same_in_a_stream(scenario: str, speaker: str, listener: str, body: Body) -> None:
    cell = golden("answers", scenario, speaker, listener)
    assert told(heard(listener, streamed(listener, speaker, body))) == cell.get("streamed", cell["heard"])


# What must hold in all of them ----------------------------------------------------------------------------------------------


def test_only_the_place_of_geminis_proof_may_differ_in_a_stream() -> None:
    """It comes with the last piece of a text, when the pieces before have been passed on."""
    different = {
        (scenario, speaker)
        for scenario in ANSWERS
        for (speaker, listener), cell in read("answers", scenario).items()
        if "streamed" in cell and speaker != listener
    }
    assert different == {("thoughts with a proof", "gemini"), ("thoughts that only their origin reads", "gemini")}


@cells_of({"sources": ANSWERS["sources"]})
def test_what_a_tool_of_the_providers_did_is_no_call_for_the_client(scenario: str, speaker: str, listener: str, body: Body) -> None:
    for answer in (whole_answer(listener, speaker, body), heard(listener, streamed(listener, speaker, body))):
        (choice,) = CODECS[listener].parse_response(encoded(answer)).choices
        assert choice.finish == "stop" and not any(isinstance(part, ToolCall) for part in choice.parts)

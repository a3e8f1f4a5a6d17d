"""The golden matrix: every client format to every provider format, in every scenario, whole and streamed.

What is said comes from `golden/`, in the vendors' own words; what must come of it stands there too, a cell for each pair.
"""

import pytest

from proxy.formats.neutral import ToolCall
from proxy.formats.registry import CODECS
from proxy.pipeline import conversion
from tests.proxy.formats.golden.builders import FORMATS, Bodies, Body
from tests.proxy.formats.golden.cells import (
    DIRECTORY,
    REQUESTS,
    RESPONSES,
    Cell,
    comparable,
    converted_response,
    converted_stream,
    encode_body,
    pairs,
    path_of,
    read,
    request_cell,
)
from tests.proxy.formats.golden.stream_readers import read_stream

KINDS = {"requests": REQUESTS, "responses": RESPONSES}
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
def test_every_scenario_covers_every_format(kind: str, scenario: str) -> None:
    assert tuple(KINDS[kind][scenario]) == FORMATS


@pytest.mark.parametrize(("kind", "scenario"), SCENARIOS)
def test_no_cell_is_missing(kind: str, scenario: str) -> None:
    assert set(read(kind, scenario)) == {
        (speaker, listener) for speaker, listener, _ in pairs(KINDS[kind][scenario])
    }


def test_no_cell_file_is_orphaned() -> None:
    assert set(DIRECTORY.rglob("*.json")) == {path_of(kind, scenario) for kind, scenario in SCENARIOS}


# Cells --------------------------------------------------------------------------------------------------------------------


@cells_of(REQUESTS)
def test_request_is_converted_as_recorded(scenario: str, speaker: str, listener: str, body: Body) -> None:
    assert request_cell(speaker, listener, body) == golden("requests", scenario, speaker, listener)


@cells_of(RESPONSES)
def test_response_is_converted_as_recorded(scenario: str, speaker: str, listener: str, body: Body) -> None:
    assert (
        comparable(converted_response(listener, speaker, body))
        == golden("responses", scenario, speaker, listener)["response"]
    )


@cells_of(RESPONSES)
def test_stream_is_converted_as_recorded(scenario: str, speaker: str, listener: str, body: Body) -> None:
    cell = golden("responses", scenario, speaker, listener)
    assert comparable(read_stream(listener, converted_stream(listener, speaker, body))) == cell.get(
        "streamed_response", cell["response"]
    )


# What must hold in all of them ----------------------------------------------------------------------------------------------


def test_only_gemini_signature_position_differs_in_streams() -> None:
    """It comes with the last piece of a text, when the pieces before have been passed on."""
    different = {
        (scenario, speaker)
        for scenario in RESPONSES
        for (speaker, listener), cell in read("responses", scenario).items()
        if "streamed_response" in cell and speaker != listener
    }
    assert different == {("thinking with signature", "gemini"), ("redacted thinking", "gemini")}


@cells_of({"citations": RESPONSES["citations"]})
def test_server_tool_use_is_not_a_client_tool_call(
    scenario: str, speaker: str, listener: str, body: Body
) -> None:
    for answer in (
        converted_response(listener, speaker, body),
        read_stream(listener, converted_stream(listener, speaker, body)),
    ):
        (choice,) = CODECS[listener].parse_response(encode_body(answer)).choices
        assert choice.finish_reason == "stop" and not any(isinstance(part, ToolCall) for part in choice.parts)

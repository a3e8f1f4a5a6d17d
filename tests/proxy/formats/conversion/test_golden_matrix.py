"""The golden matrix: conversions between all pairs of formats, in every scenario.

The inputs are in `golden/`, in the form of each vendor. The expected result of each pair is there too, in a
cell.
"""

import pytest

from proxy.formats.neutral import ToolCall
from proxy.formats.registry import CODECS
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
    quirks_of,
    read,
    request_cell,
)
from tests.proxy.formats.golden.stream_readers import read_stream

KINDS = {"requests": REQUESTS, "responses": RESPONSES}
SCENARIOS = [(kind, scenario) for kind, scenarios in KINDS.items() for scenario in scenarios]


def cells_of(scenarios: dict[str, Bodies]) -> pytest.MarkDecorator:
    """Return one test parameter for each cell."""
    found = [(scenario, *pair) for scenario, bodies in scenarios.items() for pair in pairs(bodies)]
    ids = [f"{scenario}: {sender} > {receiver}" for scenario, sender, receiver, _ in found]
    return pytest.mark.parametrize(("scenario", "sender", "receiver", "body"), found, ids=ids)


def golden(kind: str, scenario: str, sender: str, receiver: str) -> Cell:
    return read(kind, scenario)[sender, receiver]


# Completeness -------------------------------------------------------------------------------------


def test_every_format_has_its_row_and_column() -> None:
    assert tuple(CODECS) == FORMATS


@pytest.mark.parametrize(("kind", "scenario"), SCENARIOS)
def test_every_scenario_covers_every_format(kind: str, scenario: str) -> None:
    assert tuple(KINDS[kind][scenario]) == FORMATS


@pytest.mark.parametrize(("kind", "scenario"), SCENARIOS)
def test_no_cell_is_missing(kind: str, scenario: str) -> None:
    assert set(read(kind, scenario)) == {
        (sender, receiver) for sender, receiver, _ in pairs(KINDS[kind][scenario])
    }


def test_no_cell_file_is_orphaned() -> None:
    assert set(DIRECTORY.rglob("*.json")) == {path_of(kind, scenario) for kind, scenario in SCENARIOS}


# Cells --------------------------------------------------------------------------------------------


@cells_of(REQUESTS)
def test_request_is_converted_as_recorded(scenario: str, sender: str, receiver: str, body: Body) -> None:
    cell = request_cell(sender, receiver, body, quirks_of(scenario))
    assert cell == golden("requests", scenario, sender, receiver)


@cells_of(RESPONSES)
def test_response_is_converted_as_recorded(scenario: str, sender: str, receiver: str, body: Body) -> None:
    assert (
        comparable(converted_response(receiver, sender, body))
        == golden("responses", scenario, sender, receiver)["response"]
    )


@cells_of(RESPONSES)
def test_stream_is_converted_as_recorded(scenario: str, sender: str, receiver: str, body: Body) -> None:
    cell = golden("responses", scenario, sender, receiver)
    assert comparable(read_stream(receiver, converted_stream(receiver, sender, body))) == cell.get(
        "streamed_response", cell["response"]
    )


# What must hold in all of them --------------------------------------------------------------------


def test_only_gemini_parts_of_text_differ_in_streams() -> None:
    """Streams have the signature in the last piece of a text, and adjacent texts are one text."""
    different = {
        (scenario, sender)
        for scenario in RESPONSES
        for (sender, receiver), cell in read("responses", scenario).items()
        if "streamed_response" in cell and sender != receiver
    }
    assert different == {
        ("thinking with signature", "gemini"),
        ("redacted thinking", "gemini"),
    }


@cells_of({name: RESPONSES[name] for name in ("citations", "code that the provider ran")})
def test_server_tool_use_is_not_a_client_tool_call(
    scenario: str, sender: str, receiver: str, body: Body
) -> None:
    for response in (
        converted_response(receiver, sender, body),
        read_stream(receiver, converted_stream(receiver, sender, body)),
    ):
        (choice,) = CODECS[receiver].parse_response(encode_body(response)).choices
        assert choice.finish_reason == "stop" and not any(isinstance(part, ToolCall) for part in choice.parts)

"""Vendors accept every adapted request: the checker finds no violation in recorded and generated ones."""

import json
from typing import get_args

import pytest
from hypothesis import Phase, given, settings
from msgspec.structs import replace

from proxy.formats.constraints.constraint import Destination, Rule
from proxy.formats.json_body import parse_object
from proxy.formats.neutral import Request, UnsupportedFeature
from proxy.formats.registry import CODECS
from tests.proxy.formats.constraints.vendors import DESTINATIONS, label, render_for
from tests.proxy.formats.conversion.strategies import requests
from tests.proxy.formats.golden.builders import FORMATS
from tests.proxy.formats.golden.cells import REQUESTS, encode_body
from tests.support.vendor_checker import violations
from tests.support.vendor_checker.checks import CHECKS

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
destinations = pytest.mark.parametrize("destination", DESTINATIONS, ids=label)


def rejected(request: Request, destination: Destination) -> list[str]:
    """Return what the vendor rejects in a request; empty if the gateway itself rejects the request."""
    request = replace(request, model=destination.model)
    try:
        body = render_for(request, destination).body
    except UnsupportedFeature:
        return []
    return violations(json.loads(json.dumps(body)), destination)


@destinations
def test_no_recorded_request_is_rejected(destination: Destination) -> None:
    found = {
        (scenario, client): problems
        for scenario, bodies in REQUESTS.items()
        for client in FORMATS
        if (body := bodies[client]) is not None
        and (
            problems := rejected(
                CODECS[client].parse_request(parse_object(encode_body(body)), "m", False), destination
            )
        )
    }
    assert found == {}


@given(request=requests())
@settings(max_examples=30, phases=PHASES)
def test_no_generated_request_is_rejected(request: Request) -> None:
    assert rejecting_destinations(request) == {}


@pytest.mark.long
@given(request=requests())
@settings(max_examples=500, phases=PHASES)
def test_none_of_many_generated_requests_is_rejected(request: Request) -> None:
    assert rejecting_destinations(request) == {}


def rejecting_destinations(request: Request) -> dict[str, list[str]]:
    """Return what each vendor rejects in a request. Vendors that accept the request are left out."""
    found = {label(destination): rejected(request, destination) for destination in DESTINATIONS}
    return {name: problems for name, problems in found.items() if problems}


def test_every_rule_of_the_table_is_checked() -> None:
    assert CHECKS.keys() == set(get_args(Rule))

"""Price overrides over the REST API."""

import pytest

from billing.models import PriceOverride
from projects.models import Project
from tests.support.api_client import ApiClient

PATH = "projects/acme/prices"
LLAMA = {"model": "llama-*", "input": 0.1, "output": "0.2"}


def test_a_price_is_exact_and_returned_as_it_was_set(owner_api: ApiClient, project: Project) -> None:
    body = LLAMA | {"cacheRead": 0, "perRequest": 0.001, "toolFees": {"web_search": 0.01}, "provider": "groq"}
    reply = owner_api.post(PATH, body | {"effectiveFrom": "2026-11-01T00:00:00+01:00"})
    assert reply.status == 201, reply.body
    price = PriceOverride.objects.get()
    assert (price.input_nano, price.output_nano, price.request_nano) == (10**8, 2 * 10**8, 10**6)
    assert price.tool_fees == {"web_search": 10**7}
    expected = body | {"output": 0.2, "effectiveFrom": "2026-10-31T23:00:00Z", "reasoning": None}
    assert {name: reply.data[name] for name in expected} == expected
    assert owner_api.get(PATH).data == [reply.data]


def test_an_ended_price_stays_in_the_list(owner_api: ApiClient, project: Project) -> None:
    path = f"{PATH}/{owner_api.post(PATH, LLAMA).data['id']}"
    assert owner_api.delete(path).data["endedAt"]
    assert owner_api.delete(path).status == 404
    assert len(owner_api.get(PATH).data) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "*llama*"}, "model"),
        ({"input": -1}, "input"),
        ({"input": 10**9}, "input"),
        ({"output": None}, "output"),
        ({"toolFees": {"web search": 1}}, "toolFees"),
        ({"toolFees": {"web_search": -1}}, "toolFees.web_search"),
        ({"effectiveFrom": "soon"}, "effectiveFrom"),
    ],
)
def test_invalid_field_is_named(
    owner_api: ApiClient, project: Project, change: dict[str, object], field: str
) -> None:
    reply = owner_api.post(PATH, LLAMA | change)
    assert (reply.status, list(reply.error["fields"])) == (400, [field])

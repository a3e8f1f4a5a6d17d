"""Requests over the REST API: filters, pages, costs with corrections."""

import datetime as dt

import pytest

from billing.models import CorrectionReason, Outcome, UsageRecord
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, User
from tests.support.api_client import ApiClient
from tests.support.factories import USD, key_in_other_project, record

PATH = "projects/acme/requests"


def test_requests_are_listed_from_new_to_old(owner_api: ApiClient, project: Project, key: ApiKey) -> None:
    ids = [str(record(key).pk) for _ in range(3)]
    first = owner_api.get(f"{PATH}?limit=2")
    second = owner_api.get(f"{PATH}?limit=2&cursor={first.body['nextCursor']}")
    assert [each["id"] for each in first.data + second.data] == ids[::-1]
    assert second.body["nextCursor"] is None


def test_a_cost_includes_its_corrections(owner_api: ApiClient, project: Project, key: ApiKey) -> None:
    corrected = record(key, cost_nano=3 * USD)
    correction = record(key, cost_nano=-USD)
    UsageRecord.objects.filter(pk=correction.pk).update(
        corrects=corrected.pk, correction_reason=CorrectionReason.REPRICED
    )
    listed = owner_api.get(PATH).data
    assert [(each["id"], each["cost"]) for each in listed] == [(str(corrected.pk), 2)]
    assert owner_api.get(f"{PATH}/{corrected.pk}").data == listed[0]
    assert owner_api.get(f"{PATH}/{correction.pk}").status == 404


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("model=a", 1),
        ("outcome=upstream_error", 1),
        ("provider=demo", 3),
        ("provider=openai", 0),
        ("tag=team:x", 1),
    ],
)
def test_filters_select_requests(
    owner_api: ApiClient, project: Project, key: ApiKey, query: str, count: int
) -> None:
    record(key, model="a")
    record(key, outcome=Outcome.UPSTREAM_ERROR)
    UsageRecord.objects.filter(pk=record(key).pk).update(metadata={"team": "x"})
    assert len(owner_api.get(f"{PATH}?{query}").data) == count


def test_times_limit_the_list(owner_api: ApiClient, project: Project, key: ApiKey) -> None:
    record(key)
    today, tomorrow = project.today(), project.today() + dt.timedelta(days=1)
    assert len(owner_api.get(f"{PATH}?from={today}&to={tomorrow}").data) == 1
    assert owner_api.get(f"{PATH}?from={tomorrow}").data == []


@pytest.mark.parametrize(
    "query", ["from=soon", "outcome=good", "to=1066-10-14", "tag=team", "model=%00", "keyId=a%0A"]
)
def test_invalid_parameter_is_a_400(owner_api: ApiClient, project: Project, query: str) -> None:
    assert owner_api.get(f"{PATH}?{query}").status == 400


def test_requests_of_other_projects_are_unknown(owner_api: ApiClient, project: Project, alice: User) -> None:
    foreign = record(key_in_other_project(alice))
    assert owner_api.get(PATH).data == []
    assert owner_api.get(f"{PATH}/{foreign.pk}").status == 404
    assert owner_api.get(f"{PATH}/{uuid7()}").status == 404

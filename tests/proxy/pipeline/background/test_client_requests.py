"""Requests and streams with which clients follow background responses."""

from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from billing.models import Outcome, UsageRecord
from proxy.models import BackgroundResponse, IssuedId
from tests.proxy.pipeline.background.responses import COST, CREATE, create, poll_now, settled_record
from tests.support.live_gateway import open_reservation_count, wait_until
from tests.support.responses_provider import USAGE, ResponsesProvider

pytestmark = pytest.mark.databases


def test_the_clients_own_polls_charge_it_once(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    id = create(gateway)
    BackgroundResponse.objects.update(next_poll_at=timezone.now() + timedelta(hours=1))
    assert gateway.get(f"/v1/responses/{id}").json()["status"] == "queued"
    provider.finish(id)
    for _ in range(3):
        assert gateway.get(f"/v1/responses/{id}").json()["status"] == "completed"
    wait_until(lambda: UsageRecord.objects.count() == 5)
    charged = UsageRecord.objects.get(operation="responses")
    assert (charged.cost_nano, charged.estimated) == (COST, False)
    assert set(UsageRecord.objects.exclude(pk=charged.pk).values_list("cost_nano", flat=True)) == {0}
    assert not BackgroundResponse.objects.exists()


def test_a_cancelled_response_is_charged_at_once(gateway: httpx.Client, provider: ResponsesProvider) -> None:
    id = create(gateway)
    BackgroundResponse.objects.update(next_poll_at=timezone.now() + timedelta(hours=1))
    provider.responses[id]["usage"] = USAGE
    assert gateway.post(f"/v1/responses/{id}/cancel").json()["status"] == "cancelled"
    assert not BackgroundResponse.objects.exists()
    assert gateway.post(f"/v1/responses/{id}/cancel").status_code == 200, "cancelling twice is allowed"
    wait_until(lambda: UsageRecord.objects.count() == 3)
    charged = UsageRecord.objects.get(operation="responses")
    assert (charged.error, charged.cost_nano) == ("cancelled", COST)


@pytest.mark.parametrize("has_ended", [True, False])
def test_a_response_is_charged_before_it_is_deleted(
    gateway: httpx.Client, provider: ResponsesProvider, has_ended: bool
) -> None:
    id = create(gateway)
    BackgroundResponse.objects.update(next_poll_at=timezone.now() + timedelta(hours=1))
    if has_ended:
        provider.finish(id)
    assert gateway.delete(f"/v1/responses/{id}").status_code == 200
    assert not BackgroundResponse.objects.exists()
    wait_until(lambda: UsageRecord.objects.count() == 2)
    charged = UsageRecord.objects.get(operation="responses")
    assert charged.estimated != has_ended and charged.cost_nano >= COST
    assert charged.error == ("" if has_ended else "background_response_deleted")


def test_a_stream_that_ends_is_charged_by_its_usage(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    with gateway.stream("POST", "/v1/responses", json=CREATE | {"stream": True}) as streamed:
        for line in streamed.iter_lines():
            if "response.in_progress" in line:
                assert BackgroundResponse.objects.exists(), "it is stored before the client knows its id"
                assert IssuedId.objects.filter(kind="response").exists()
                provider.finish("resp_1")
    record = settled_record()
    assert (record.outcome, record.streamed, record.cost_nano) == (Outcome.OK, True, COST)


def test_the_poller_takes_over_from_a_dropped_stream(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    with gateway.stream("POST", "/v1/responses", json=CREATE | {"stream": True}) as streamed:
        next(streamed.iter_lines())
    wait_until(lambda: not open_reservation_count())
    assert not UsageRecord.objects.exists()
    provider.finish("resp_1")
    poll_now()
    record = settled_record()
    assert (record.outcome, record.status_code, record.cost_nano) == (Outcome.OK, 200, COST)
    resumed = gateway.get("/v1/responses/resp_1", params={"stream": "true", "starting_after": 0}).text
    assert "response.in_progress" in resumed and "response.completed" in resumed


def test_a_poll_during_the_stream_does_not_charge_it_twice(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    provider.holds_streams = True
    with gateway.stream("POST", "/v1/responses", json=CREATE | {"stream": True}) as streamed:
        lines = streamed.iter_lines()
        next(lines)
        provider.finish("resp_1")
        poll_now()
        wait_until(lambda: not BackgroundResponse.objects.exists())
        provider.holds_streams = False
        assert any("response.completed" in line for line in lines)
    assert settled_record().cost_nano == COST

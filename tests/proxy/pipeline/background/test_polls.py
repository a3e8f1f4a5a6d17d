"""Polls of background responses: results, outages and estimates."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import httpx
import pytest
from aiohttp import web
from django.db import OperationalError
from django.utils import timezone
from structlog.testing import CapturingLogger

from billing import ledger
from billing.models import Outcome, UsageRecord
from keys.models import ApiKey
from projects.models import Project
from proxy.models import BackgroundResponse, BackgroundResponseQuerySet, Credential, IssuedId
from proxy.models.background_responses import poll_interval_s
from proxy.pipeline import charges
from proxy.pipeline.background import poller
from tests.proxy.pipeline.background.responses import (
    COST,
    CREATE,
    MODEL,
    OUTPUT_RATE,
    create,
    make_older,
    poll_now,
    settled_record,
)
from tests.support.live_gateway import LiveGateway, only_record, open_reservation_count, wait_until
from tests.support.responses_provider import TEXT, ResponsesProvider
from tests.support.upstream_server import LocalUpstream

pytestmark = pytest.mark.databases


def test_the_result_is_fetched_and_charged_to_the_key_that_asked(
    gateway: httpx.Client, provider: ResponsesProvider, demo_project: Project
) -> None:
    created = gateway.post("/v1/responses", json=CREATE, headers={"x-request-id": "my-request"})
    assert created.json()["status"] == "queued" and "x-cost-usd" not in created.headers
    wait_until(lambda: provider.polls["resp_1"] > 0)
    assert not UsageRecord.objects.exists() and not open_reservation_count()
    provider.finish("resp_1")
    poll_now()
    record = settled_record()
    assert (record.request_id, record.operation, record.requested_model) == ("my-request", "responses", MODEL)
    assert (record.project, record.key) == (demo_project, demo_project.keys.get())
    assert (record.outcome, record.status_code, record.error) == (Outcome.OK, 200, "")
    assert (record.prompt_tokens, record.output_tokens, record.cost_nano) == (1000, 200, COST)
    assert not record.estimated and record.reserved_nano and record.latency_us > 0


def test_the_price_of_the_tier_that_served_it_is_charged(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    id = create(gateway)
    provider.finish(id, service_tier="priority")
    record = settled_record()
    assert (record.service_tier, record.cost_nano) == ("priority", 1000 * 250 + 200 * 1000)


def test_requested_tier_and_memory_are_charged_if_not_reported(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    container = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
    id = create(gateway, service_tier="priority", tools=[{"type": "function", "name": "f"}, container])
    call = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1", "code": "1"}
    provider.finish(id, service_tier=None, tools=None, output=[call])
    record = settled_record()
    assert (record.service_tier, record.billable_extras) == ("priority", {"code_interpreter_4g": 1})
    assert record.cost_nano == 1000 * 250 + 200 * 1000 + 120_000_000


def test_a_tier_without_a_known_price_is_flagged(
    gateway: httpx.Client, provider: ResponsesProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(charges, "log", log)
    provider.finish(create(gateway), service_tier="us")
    record = settled_record()
    assert record.estimated and record.cost_nano > COST
    wait_until(lambda: "service_tier_not_priced" in [call.args[0] for call in log.calls])


@pytest.mark.parametrize(
    ("status", "fields", "outcome", "code", "error"),
    [
        ("incomplete", {}, Outcome.OK, 200, ""),
        (
            "failed",
            {"error": {"code": "server_error", "message": "x"}},
            Outcome.UPSTREAM_ERROR,
            502,
            "server_error",
        ),
        ("cancelled", {}, Outcome.CLIENT_CLOSED, 499, "cancelled"),
    ],
)
def test_the_record_has_the_final_status(
    gateway: httpx.Client,
    provider: ResponsesProvider,
    status: str,
    fields: dict[str, Any],
    outcome: Outcome,
    code: int,
    error: str,
) -> None:
    provider.finish(create(gateway), status, **fields)
    record = settled_record()
    assert (record.outcome, record.status_code, record.error) == (outcome, code, error)
    assert (record.cost_nano, record.estimated) == (COST, False)


@pytest.mark.parametrize(
    ("status", "output", "estimated"),
    [("completed", -(-len(TEXT) // 4), True), ("cancelled", 0, True), ("failed", None, False)],
)
def test_a_result_without_usage_is_estimated_by_what_it_shows(
    gateway: httpx.Client, provider: ResponsesProvider, status: str, output: int | None, estimated: bool
) -> None:
    provider.finish(create(gateway), status, usage=None)
    record = settled_record()
    assert (record.estimated, record.output_tokens) == (estimated, output or 0)
    assert (record.cost_nano > 0) == estimated


def test_polls_become_less_frequent() -> None:
    assert [poll_interval_s(polls) for polls in (*range(8), 1000)] == [2, 4, 8, 16, 32, 60, 60, 60, 60]


def test_two_processes_do_not_make_the_same_poll(demo_project: Project) -> None:
    now = timezone.now()
    BackgroundResponse.objects.create(
        id="01a1fb40-fc3e-73ae-8de1-a78a094b947e", project=demo_project, account="openai", next_poll_at=now
    )
    first, second = (BackgroundResponse.objects.get() for _ in range(2))
    assert first.claim_poll() and not second.claim_poll()
    assert BackgroundResponse.objects.get().next_poll_at > now + timedelta(seconds=1)


def test_a_hanging_provider_delays_no_other_project(
    live_gateway: LiveGateway,
    gateway: httpx.Client,
    provider: ResponsesProvider,
    upstream: LocalUpstream,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(poller, "MAX_CONCURRENT_PER_PROJECT", 2)
    monkeypatch.setattr(poller, "MAX_CONCURRENT", 4)
    Credential.objects.create(project=project, slug="slow", provider="openai", base_url=upstream.url)
    headers = {"x-api-key": ApiKey.objects.issue(project, "app")[1]}
    polls = 0

    async def hang(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        nonlocal polls
        if request.method == "GET" and "authorization" not in request.headers:
            polls += 1
            await asyncio.sleep(20)
        return await provider.handle(request, body)

    upstream.handler = hang
    for _ in range(6):
        httpx.post(f"{live_gateway.url}/v1/responses", json=CREATE, headers=headers).raise_for_status()
    wait_until(lambda: polls == 2)
    provider.finish(create(gateway))
    wait_until(lambda: UsageRecord.objects.count() == 1)
    assert polls == 2 and UsageRecord.objects.get().cost_nano == COST


def test_a_process_without_the_lease_does_not_poll(
    gateway: httpx.Client, provider: ResponsesProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def refuse() -> bool:
        nonlocal looks
        looks += 1
        return False

    with monkeypatch.context() as patched:
        patched.setattr(ledger.current(), "acquire_lease", refuse)
        wait_until(lambda: looks > 0)
        create(gateway)
        poll_now()
        before = looks
        wait_until(lambda: looks > before + 3)
        assert not provider.polls
    wait_until(lambda: provider.polls.total() > 0)


def test_the_accounts_key_is_used_even_if_the_project_lost_access(
    gateway: httpx.Client, provider: ResponsesProvider, upstream: LocalUpstream, demo_project: Project
) -> None:
    id = create(gateway)
    demo_project.uses_operator_credentials = False
    demo_project.save()
    provider.finish(id)
    assert settled_record().cost_nano == COST
    assert upstream.requests[-1].headers["authorization"] == "Bearer sk-operator"


def test_accounts_of_projects_are_polled_with_their_key(
    live_gateway: LiveGateway, provider: ResponsesProvider, upstream: LocalUpstream, project: Project
) -> None:
    credential = Credential(project=project, slug="mine", provider="openai", base_url=upstream.url)
    credential.set_secret("sk-mine")
    credential.save()
    token = ApiKey.objects.issue(project, "app")[1]
    headers = {"authorization": f"Bearer {token}"}
    created = httpx.post(f"{live_gateway.url}/v1/responses", json=CREATE, headers=headers)
    provider.finish(created.json()["id"])
    assert (settled_record().provider, settled_record().cost_nano) == ("mine", COST)
    assert upstream.requests[-1].headers["authorization"] == "Bearer sk-mine"


def test_ids_of_items_work_after_the_end(
    gateway: httpx.Client, provider: ResponsesProvider, demo_project: Project
) -> None:
    Project.objects.create_with_owner("Neighbour", slug="neighbour", uses_operator_credentials=True)
    provider.finish(create(gateway))
    settled_record()
    assert set(IssuedId.objects.values_list("kind", flat=True)) == {"response", "item"}
    reference = {"input": [{"type": "item_reference", "id": "msg_1"}], "background": False}
    assert gateway.post("/v1/responses", json=CREATE | reference).status_code == 200


@pytest.mark.parametrize(("limit", "output"), [({}, 4096), ({"max_output_tokens": 50}, 50)])
def test_a_response_that_cannot_be_fetched_for_a_day_is_estimated(
    gateway: httpx.Client, provider: ResponsesProvider, limit: dict[str, int], output: int
) -> None:
    id = create(gateway, **limit)
    provider.failure = 500
    make_older(timedelta(hours=23, minutes=59))
    wait_until(lambda: ("GET", f"/v1/responses/{id}") in provider.calls)
    time.sleep(0.2)
    assert BackgroundResponse.objects.exists(), "it is polled for a day"
    make_older(timedelta(hours=24, minutes=1))
    record = settled_record()
    assert (record.outcome, record.status_code) == (Outcome.UPSTREAM_ERROR, 504)
    assert record.error == "background_response_expired"
    assert record.estimated and record.output_tokens == output and record.prompt_tokens > 0
    assert record.cost_nano > output * OUTPUT_RATE


def test_a_response_that_does_not_end_for_a_day_is_estimated(gateway: httpx.Client) -> None:
    create(gateway)
    make_older(timedelta(hours=24, minutes=1))
    record = settled_record()
    assert (record.error, record.estimated) == ("background_response_expired", True)


def test_a_late_result_is_charged_however_old_the_response_is(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    provider.finish(create(gateway))
    make_older(timedelta(days=20))
    assert (settled_record().cost_nano, settled_record().estimated) == (COST, False)


def test_a_response_that_the_provider_lost_is_estimated(
    gateway: httpx.Client, provider: ResponsesProvider
) -> None:
    id = create(gateway)
    del provider.responses[id]
    poll_now()
    wait_until(lambda: ("GET", f"/v1/responses/{id}") in provider.calls)
    time.sleep(0.2)
    assert BackgroundResponse.objects.exists(), "a new response may not be known everywhere at once"
    make_older(timedelta(minutes=11))
    record = settled_record()
    assert (record.error, record.status_code, record.estimated) == ("background_response_lost", 502, True)


def test_a_response_of_a_deleted_credential_is_estimated_in_the_end(
    live_gateway: LiveGateway, upstream: LocalUpstream, project: Project
) -> None:
    Credential.objects.create(project=project, slug="mine", provider="openai", base_url=upstream.url)
    headers = {"authorization": f"Bearer {ApiKey.objects.issue(project, 'app')[1]}"}
    assert httpx.post(f"{live_gateway.url}/v1/responses", json=CREATE, headers=headers).status_code == 200
    Credential.objects.all().delete()
    time.sleep(0.5)
    make_older(timedelta(hours=25))
    assert settled_record().estimated


def test_an_outage_of_the_database_charges_an_estimate_at_once(
    gateway: httpx.Client, provider: ResponsesProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("connection refused")

    monkeypatch.setattr(BackgroundResponseQuerySet, "add", fail)
    create(gateway, max_output_tokens=50)
    record = only_record()
    assert (record.outcome, record.estimated, record.output_tokens) == (Outcome.OK, True, 50)

"""Background responses, for the tests of this folder."""

from datetime import timedelta
from typing import Any

import httpx
from django.utils import timezone

from billing.models import UsageRecord
from proxy.models import BackgroundResponse
from tests.support.live_gateway import only_record, wait_until

MODEL = "gpt-4o-mini"
CREATE: dict[str, Any] = {"model": MODEL, "input": "Hi", "background": True}
COST = 1000 * 150 + 200 * 600
"""Nano-USD of the usage that the provider reports."""
OUTPUT_RATE = 600


def create(client: httpx.Client, **fields: Any) -> str:
    created = client.post("/v1/responses", json=CREATE | fields)
    assert created.status_code == 200, created.text
    id: str = created.json()["id"]
    return id


def poll_now() -> None:
    BackgroundResponse.objects.update(next_poll_at=timezone.now())


def make_older(age: timedelta) -> None:
    BackgroundResponse.objects.update(created_at=timezone.now() - age, next_poll_at=timezone.now())


def settled_record() -> UsageRecord:
    """Wait until the result is charged; return the only record."""
    wait_until(lambda: UsageRecord.objects.exists() and not BackgroundResponse.objects.exists())
    return only_record()

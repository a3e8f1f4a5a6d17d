"""Lifetimes of stored ids, and their deletion."""

import json
from datetime import timedelta

import httpx
import pytest
from django.utils import timezone

from projects.models import Project
from proxy.formats.account_ids import IssuedAccountId
from proxy.models import IssuedId
from proxy.pipeline import account_ids
from proxy.tasks import purge_issued_ids
from tests.proxy.pipeline.account_ids.requests import (
    CHAT,
    ISSUED,
    RESPONSES,
    begin,
    error_of,
    issued_id,
    post,
)

pytestmark = pytest.mark.databases


def test_an_id_works_as_long_as_the_provider_keeps_the_object(gateway: httpx.Client) -> None:
    begin(gateway, RESPONSES)
    begin(gateway, CHAT)
    now = timezone.now()
    expiries = {
        (row.kind, row.expires_at and round((row.expires_at - now) / timedelta(hours=1)))
        for row in IssuedId.objects.all()
    }
    month = 30 * 24
    assert expiries == {
        ("response", month),
        ("conversation", None),
        ("item", None),  # An item is stored as long as its conversation.
        ("container", month),
        ("file", month),
        ("audio", 1),
    }
    IssuedId.objects.filter(kind="response").update(expires_at=now)
    error_of(post(gateway, *ISSUED["previous_response_id"]), RESPONSES)
    begin(gateway, RESPONSES)
    assert post(gateway, *ISSUED["previous_response_id"]).status_code == 200


@pytest.mark.parametrize("until", [-1, 0, 1, 10**18, 10**30])
def test_an_absurd_expiry_is_ignored(until: int) -> None:
    kept = account_ids.expiry(IssuedAccountId("audio", "audio_1", until=until))
    assert kept is not None and timedelta(days=29) < kept - timezone.now() < timedelta(days=31)


def test_expired_ids_are_deleted_in_batches(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.models.issued_ids.PURGE_BATCH_SIZE", 2)
    past, future = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(days=1)
    IssuedId.objects.store(issued_id(project, number, expires_at=past) for number in range(5))
    IssuedId.objects.store([issued_id(project, 5, expires_at=future), issued_id(project, 6, expires_at=None)])
    assert purge_issued_ids() == 5
    assert purge_issued_ids() == 0
    assert set(IssuedId.objects.values_list("digest", flat=True)) == {f"{5:064}", f"{6:064}"}


def test_an_id_that_is_issued_again_gets_the_later_expiry(project: Project) -> None:
    soon, later = timezone.now() + timedelta(hours=1), timezone.now() + timedelta(days=1)
    IssuedId.objects.store([issued_id(project, 1, expires_at=soon)])
    IssuedId.objects.store([issued_id(project, 1, expires_at=soon), issued_id(project, 1, expires_at=later)])
    assert IssuedId.objects.get().expires_at == later


def test_no_id_is_stored_in_plain_text(gateway: httpx.Client) -> None:
    begin(gateway, RESPONSES)
    values = json.dumps(list(IssuedId.objects.values()), default=str)
    assert "resp_1" not in values and "conv_1" not in values


def test_ids_are_deleted_with_their_project(project: Project) -> None:
    IssuedId.objects.store([issued_id(project, 1)])
    project.delete()
    assert not IssuedId.objects.exists()

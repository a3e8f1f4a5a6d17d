"""Factories for tests of pages: signed-in clients, records, usage, webhooks, and URLs of pages."""

import datetime as dt
from itertools import count
from uuid import UUID

from allauth.account.models import EmailAddress
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing.models import (
    Budget,
    DailyUsage,
    Outcome,
    Period,
    PriceOverride,
    UsageRecord,
    Webhook,
)
from keys.models import ApiKey
from projects.ids import uuid7
from projects.models import Project, Role, User
from proxy.models import Credential, Route

SECRET = "sk-proj-abcdefghijklmnopqrstuvwxyz-5678"
USD = 10**9


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    return client


def verified(user: User) -> User:
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    return user


FIRST_ID = uuid7().int
RECORD_IDS = (UUID(int=FIRST_ID + number) for number in count())
"""Ids in the order in which records are created, even within a millisecond."""
UNUSED_TOKENS = dict.fromkeys(
    (
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "cache_write_12h_tokens",
        "reasoning_tokens",
    ),
    0,
)
DEMO_CALL = {
    "operation": "chat",
    "format": "openai",
    "provider": "demo",
    "streamed": False,
    "status_code": 200,
    "error": "",
    "estimated": False,
}


def record(
    key: ApiKey,
    *,
    day: dt.date | None = None,
    cost_nano: int = 0,
    outcome: Outcome = Outcome.OK,
    model: str = "demo/chat",
) -> UsageRecord:
    return UsageRecord.objects.create(
        id=next(RECORD_IDS),
        project=key.project,
        key=key,
        day=day or key.project.today(),
        created_at=timezone.now(),
        request_id="req-1",
        requested_model=model,
        provider_model=model,
        outcome=outcome,
        input_tokens=1234,
        output_tokens=56,
        cost_nano=cost_nano,
        latency_us=1_240_000,
        **UNUSED_TOKENS,
        **DEMO_CALL,
    )


def daily(key: ApiKey, day: dt.date, cost_nano: int) -> DailyUsage:
    sums = {"requests": 1, "failures": 0, "input_tokens": 1, "output_tokens": 1}
    return DailyUsage.objects.create(
        project=key.project,
        key=key,
        day=day,
        requested_model="demo/chat",
        provider="demo",
        cost_nano=cost_nano,
        **sums,
    )


def key_in_other_project(owner: User) -> ApiKey:
    return ApiKey.objects.issue(Project.objects.create_with_owner("Other", owner=owner), "theirs")[0]


def webhook_at(project: Project, url: str, name: str = "pager") -> tuple[Webhook, str]:
    """Create a webhook; return it and its signing secret."""
    webhook = Webhook(project=project, name=name, url=url)
    secret = webhook.new_secret()
    webhook.save()
    return webhook, secret


def project_objects(project: Project) -> dict[str, Budget | Webhook]:
    """Return, by page name, the budget or webhook that a page shows."""
    budget, _ = Budget.objects.get_or_create(
        project=project, key=None, period=Period.TOTAL, defaults={"limit_nano": USD}
    )
    webhook = (
        Webhook.objects.for_project(project).first() or webhook_at(project, "https://example.org/hook")[0]
    )
    return {
        "budget-edit": budget,
        "budget-delete": budget,
        "webhook-test": webhook,
        "webhook-delete": webhook,
    }


def project_pages(project: Project, key: ApiKey, credential: Credential) -> dict[str, tuple[str, Role]]:
    """Return the URL of every page of a project, and the lowest role that may see it."""
    roles = {
        "project-overview": Role.VIEWER,
        "key-list": Role.VIEWER,
        "key-new": Role.MEMBER,
        "credential-list": Role.MEMBER,
        "credential-new": Role.ADMIN,
        "project-settings": Role.ADMIN,
        "prompt-log-settings": Role.ADMIN,
        "project-settings-purge-cache": Role.ADMIN,
        "budget-list": Role.VIEWER,
        "budget-new": Role.ADMIN,
        "alert-list": Role.MEMBER,
        "webhook-new": Role.ADMIN,
        "price-list": Role.VIEWER,
        "price-new": Role.ADMIN,
        "model-list": Role.VIEWER,
        "route-list": Role.MEMBER,
        "route-new": Role.ADMIN,
    }
    pages = {name: (reverse(name, args=[project.slug]), role) for name, role in roles.items()}
    objects = project_objects(project)
    pages |= {name: (reverse(name, args=[project.slug, objects[name].pk]), Role.ADMIN) for name in objects}
    price, _ = PriceOverride.objects.get_or_create(
        project=project, model="llama-*", defaults={"input_nano": 0, "output_nano": USD}
    )
    pages["price-end"] = (reverse("price-end", args=[project.slug, price.pk]), Role.ADMIN)
    route, _ = Route.objects.get_or_create(
        project=project, name="smart", defaults={"targets": [{"provider": "gemini", "model": "x"}]}
    )
    for name in ("route-edit", "route-delete"):
        pages[name] = (reverse(name, args=[project.slug, route.pk]), Role.ADMIN)
    pages["request-detail"] = (reverse("request-detail", args=[project.slug, record(key).pk]), Role.VIEWER)
    pages["key-edit"] = (reverse("key-edit", args=[project.slug, key.public_id]), Role.ADMIN)
    pages["key-revoke"] = (reverse("key-revoke", args=[project.slug, key.public_id]), Role.MEMBER)
    pages["credential-edit"] = (reverse("credential-edit", args=[project.slug, credential.pk]), Role.ADMIN)
    pages["credential-test"] = (reverse("credential-test", args=[project.slug, credential.pk]), Role.ADMIN)
    pages["credential-delete"] = (
        reverse("credential-delete", args=[project.slug, credential.pk]),
        Role.ADMIN,
    )
    return pages

"""Messages of alerts: an e-mail for members, a JSON event for webhooks."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.template.loader import render_to_string
from django.urls import reverse

from billing.budgets.windows import ends_at
from billing.models import AdminAlert, Alert, Budget, Delivery, Mode
from billing.money import decimal_usd

MODE_EFFECT = {
    Mode.HARD: "Requests that could exceed it are denied.",
    Mode.SOFT: "Requests are not denied: this budget only warns.",
    Mode.SHADOW: "Requests are not denied: this budget only records which ones it would have denied.",
}


def render_email(alert: Alert | AdminAlert) -> tuple[str, str]:
    """Return the subject and the text of an e-mail. Line breaks in the subject are replaced by spaces."""
    match alert:
        case AdminAlert():
            return render_admin_email(alert)
        case Alert():
            return render_budget_email(alert)


def render_admin_email(alert: AdminAlert) -> tuple[str, str]:
    link = settings.ENV.public_url + reverse("alert-list", args=[alert.project.slug])
    text = render_to_string("email/admin_alert.txt", {"alert": alert, "link": link})
    return " ".join(f"[{alert.project.name}] {alert.title}".split()), text


def render_budget_email(alert: Alert) -> tuple[str, str]:
    budget = alert.budget
    context = {
        "alert": alert,
        "budget": budget,
        "project": budget.project,
        "resets_at": ends_at(alert.window, budget.project.tzinfo),
        "mode_effect": MODE_EFFECT[Mode(budget.mode)],
        "link": settings.ENV.public_url + reverse("budget-list", args=[budget.project.slug]),
    }
    subject = render_to_string("email/alert_subject.txt", context)
    return " ".join(subject.split()), render_to_string("email/alert.txt", context)


def message_id(delivery: Delivery) -> str:
    """Return the Message-ID. It is the same at every attempt, so that mail programs detect duplicates."""
    return f"<{delivery.id.hex}@{urlsplit(settings.ENV.public_url).hostname}>"


def webhook_payload(delivery: Delivery) -> dict[str, Any]:
    """Return the body of a webhook: the members that the Standard Webhooks specification recommends."""
    project = {"slug": delivery.project.slug, "name": delivery.project.name}
    if alert := delivery.admin_alert:
        data = {"project": project, "subject": alert.subject, "title": alert.title, "text": alert.text}
        return {"type": alert.event, "timestamp": alert.created_at, "data": data}
    if delivery.alert is None:
        return {"type": "webhook.test", "timestamp": delivery.created_at, "data": {"project": project}}
    return {
        "type": "budget.request_refused" if delivery.alert.is_denial else "budget.threshold_reached",
        "timestamp": delivery.alert.created_at,
        "data": {"project": project, **alert_data(delivery.alert)},
    }


def alert_data(alert: Alert) -> dict[str, Any]:
    return {
        "budget": {
            **budget_data(alert.budget),
            "limit_usd": decimal_usd(alert.limit_nano),
            "limit_nano_usd": alert.limit_nano,
        },
        "window": alert.window,
        "resets_at": ends_at(alert.window, alert.budget.project.tzinfo),
        "threshold_percent": None if alert.is_denial else alert.threshold,
        "spent_usd": decimal_usd(alert.spent_nano),
        "spent_nano_usd": alert.spent_nano,
    }


def budget_data(budget: Budget) -> dict[str, Any]:
    key = {"id": budget.key.public_id, "name": budget.key.label} if budget.key else None
    return {"id": budget.pk, "period": budget.period, "mode": budget.mode, "key": key}

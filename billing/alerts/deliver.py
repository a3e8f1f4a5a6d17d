"""Deliver pending messages of alerts by e-mail and webhook.

A process claims each attempt before it makes it, so that no other process makes the same attempt.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from smtplib import SMTPException

import structlog
from django.core.mail import EmailMessage

from billing.alerts import messages, webhook
from billing.alerts.webhook import UNEXPECTED_ERROR, SignedWebhook
from billing.models import AdminAlert, Alert, Delivery, Webhook
from projects.models import Membership
from projects.vault import DecryptionError

BATCH_SIZE = 50
"""Maximum number of webhooks, and of e-mails, in one run."""
EMAIL_BATCH_TIMEOUT_S = 10.0
"""Time after which a run starts no more e-mails, so that a slow mail server does not block other tasks."""

log = structlog.get_logger()


def deliver_due() -> int:
    """Attempt the deliveries that are due, and return the number of attempts.

    Webhooks are sent first, so that a slow mail server does not delay them.
    """
    return deliver_webhooks(due_webhooks()) + deliver_emails(due_emails())


def due_webhooks() -> list[tuple[Delivery, Webhook]]:
    due = Delivery.objects.due().exclude(webhook=None)[:BATCH_SIZE]
    return [(delivery, delivery.webhook) for delivery in due if delivery.webhook]


def due_emails() -> list[tuple[Delivery, Alert | AdminAlert, Membership]]:
    due = Delivery.objects.due().exclude(member=None)[:BATCH_SIZE]
    return [
        (delivery, alert, delivery.member)
        for delivery in due
        if (alert := delivery.alert or delivery.admin_alert) and delivery.member
    ]


def deliver_webhooks(due: Iterable[tuple[Delivery, Webhook]]) -> int:
    """Claim all webhooks, then send them concurrently. Return the number of attempts."""
    claimed = [(delivery, recipient) for delivery, recipient in due if delivery.claim()]
    signed_webhooks = {
        delivery: signed for delivery, recipient in claimed if (signed := sign_webhook(delivery, recipient))
    }
    results = asyncio.run(webhook.send_all(list(signed_webhooks.values()))) if signed_webhooks else []
    for delivery, result in zip(signed_webhooks, results, strict=True):
        with isolate_failures(delivery):
            delivery.finish_attempt(result.failure_reason, is_permanent=result.is_permanent)
    return len(claimed)


def deliver_emails(due: Iterable[tuple[Delivery, Alert | AdminAlert, Membership]]) -> int:
    """Send e-mails one after the other, and return the number of attempts.

    Each e-mail is claimed just before it is sent. If all were claimed first, the claims of the last e-mails
    could expire while the first ones are sent.
    """
    ends_at, attempts = time.monotonic() + EMAIL_BATCH_TIMEOUT_S, 0
    for delivery, alert, member in due:
        if time.monotonic() >= ends_at:
            break
        if delivery.claim():
            attempts += 1
            with isolate_failures(delivery):
                delivery.finish_attempt(send_email(delivery, alert, member))
    return attempts


@contextmanager
def isolate_failures(delivery: Delivery) -> Iterator[None]:
    """Record any error in the block as a failed attempt of this delivery, so that the others continue."""
    try:
        yield
    except Exception as error:
        log.error(
            "alert_delivery_failed",
            message="An alert message could not be sent. It is retried unless this was its last attempt.",
            delivery_id=str(delivery.pk),
            exc_info=error,
        )
        delivery.finish_attempt(UNEXPECTED_ERROR)


def sign_webhook(delivery: Delivery, recipient: Webhook) -> SignedWebhook | None:
    """Build and sign the message of a delivery. If this fails, record a failed attempt and return None."""
    with isolate_failures(delivery):
        try:
            return webhook.sign(
                delivery.id,
                recipient.url,
                messages.webhook_payload(delivery),
                recipient.signing_key(),
            )
        except DecryptionError:
            delivery.finish_attempt(
                "the signing secret cannot be decrypted; the operator must restore its encryption key"
            )
    return None


def send_email(delivery: Delivery, alert: Alert | AdminAlert, member: Membership) -> str:
    """Send an alert's message to a member. Return the reason of a failure; empty if the e-mail was sent."""
    subject, text = messages.render_email(alert)
    headers = {"Message-ID": messages.message_id(delivery)}
    try:
        EmailMessage(subject, text, to=[member.user.email], headers=headers).send()
    except (SMTPException, OSError) as error:
        return f"the mail server did not accept it: {error}"
    return ""

"""Delivers the messages that wait: each attempt is claimed first, so that two processes never make the same one."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from smtplib import SMTPException

import structlog
from django.core.mail import EmailMessage

from billing.alerts import messages, webhook
from billing.alerts.webhook import UNEXPECTED_ERROR, SignedWebhook
from billing.models import Delivery
from projects.vault import DecryptionError

BATCH_SIZE = 50
"""Messages of one round: those to webhooks go out together, so that one that hangs delays no other."""
EMAIL_BATCH_TIMEOUT_S = 10.0
"""No further mail of a round is begun after this time: where the mail server is slow, it must not hold up what else is scheduled."""

log = structlog.get_logger()


def deliver_due() -> int:
    """Makes the attempts that are due; returns how many it made. Mails that wait for a slow server keep no webhook waiting."""
    due = Delivery.objects.due()
    return deliver_webhooks(due.exclude(webhook=None)[:BATCH_SIZE]) + deliver_emails(
        due.filter(webhook=None)[:BATCH_SIZE]
    )


def deliver_webhooks(due: Iterable[Delivery]) -> int:
    """They go out together, and are claimed together."""
    claimed = [delivery for delivery in due if delivery.claim()]
    signed_webhooks = {delivery: signed for delivery in claimed if (signed := sign_webhook(delivery))}
    results = asyncio.run(webhook.send_all(list(signed_webhooks.values()))) if signed_webhooks else []
    for delivery, result in zip(signed_webhooks, results, strict=True):
        with isolate_failures(delivery):
            delivery.finish_attempt(result.failure_reason, is_permanent=result.is_permanent)
    return len(claimed)


def deliver_emails(due: Iterable[Delivery]) -> int:
    """One after the other, each claimed when its turn comes: the claim is over before the last of many would be begun."""
    ends_at, sent = time.monotonic() + EMAIL_BATCH_TIMEOUT_S, 0
    for delivery in due:
        if time.monotonic() >= ends_at:
            break
        if delivery.claim():
            sent += 1
            with isolate_failures(delivery):
                delivery.finish_attempt(send_email(delivery))
    return sent


@contextmanager
def isolate_failures(delivery: Delivery) -> Iterator[None]:
    """Whatever one message meets is a failed attempt of its own, and keeps no other back."""
    try:
        yield
    except Exception as error:
        log.error("a message cannot be delivered", delivery_id=str(delivery.pk), exc_info=error)
        delivery.finish_attempt(UNEXPECTED_ERROR)


def sign_webhook(delivery: Delivery) -> SignedWebhook | None:
    """The message as it goes out now; None, and noted, where it cannot be made, or its secret cannot be read."""
    assert delivery.webhook is not None
    with isolate_failures(delivery):
        try:
            return webhook.sign(
                delivery.id,
                delivery.webhook.url,
                messages.webhook_payload(delivery),
                delivery.webhook.signing_key(),
            )
        except DecryptionError:
            delivery.finish_attempt(
                "the signing secret cannot be decrypted; the operator must restore its encryption key"
            )
    return None


def send_email(delivery: Delivery) -> str:
    """Why the message could not be handed over to the mail server; empty when it was."""
    assert delivery.alert is not None and delivery.member is not None
    subject, text = messages.render_email(delivery.alert)
    try:
        EmailMessage(
            subject,
            text,
            to=[delivery.member.user.email],
            headers={"Message-ID": messages.message_id(delivery)},
        ).send()
    except (SMTPException, OSError) as error:
        return f"the mail server did not take it: {error}"
    return ""

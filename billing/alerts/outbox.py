"""Delivers the messages that wait: each attempt is claimed first, so that two processes never make the same one."""

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from smtplib import SMTPException

import structlog
from django.core.mail import EmailMessage

from billing.alerts import messages, webhook
from billing.alerts.webhook import UNFORESEEN, Outgoing
from billing.models import Delivery
from projects.vault import Undecipherable

BATCH = 50
"""Messages of one round: those to webhooks go out together, so that one that hangs delays no other."""
MAILS_S = 10.0
"""No further mail of a round is begun after this time: where the mail server is slow, it must not hold up what else is scheduled."""

log = structlog.get_logger()


def deliver_due() -> int:
    """Makes the attempts that are due; returns how many it made. Mails that wait for a slow server keep no webhook waiting."""
    due = Delivery.objects.due()
    return post(due.exclude(webhook=None)[:BATCH]) + send(due.filter(webhook=None)[:BATCH])


def post(due: Iterable[Delivery]) -> int:
    """They go out together, and are claimed together."""
    claimed = [delivery for delivery in due if delivery.claim()]
    outgoing = {delivery: signed for delivery in claimed if (signed := sign(delivery))}
    results = asyncio.run(webhook.post_all(list(outgoing.values()))) if outgoing else []
    for delivery, result in zip(outgoing, results, strict=True):
        with failing_alone(delivery):
            delivery.conclude(result.reason, final=result.final)
    return len(claimed)


def send(due: Iterable[Delivery]) -> int:
    """One after the other, each claimed when its turn comes: the claim is over before the last of many would be begun."""
    ends_at, sent = time.monotonic() + MAILS_S, 0
    for delivery in due:
        if time.monotonic() >= ends_at:
            break
        if delivery.claim():
            sent += 1
            with failing_alone(delivery):
                delivery.conclude(mail(delivery))
    return sent


@contextmanager
def failing_alone(delivery: Delivery) -> Iterator[None]:
    """Whatever one message meets is a failed attempt of its own, and keeps no other back."""
    try:
        yield
    except Exception as error:
        log.error("a message cannot be delivered", delivery_id=str(delivery.pk), exc_info=error)
        delivery.conclude(UNFORESEEN)


def sign(delivery: Delivery) -> Outgoing | None:
    """The message as it goes out now; None, and noted, where it cannot be made, or its secret cannot be read."""
    assert delivery.webhook is not None
    with failing_alone(delivery):
        try:
            return webhook.sign(delivery.id, delivery.webhook.url, messages.payload(delivery), delivery.webhook.signing_key())
        except Undecipherable:
            delivery.conclude("the signing secret cannot be decrypted; the operator must restore its encryption key")
    return None


def mail(delivery: Delivery) -> str:
    """Why the message could not be handed over to the mail server; empty when it was."""
    assert delivery.alert is not None and delivery.member is not None
    subject, text = messages.email(delivery.alert)
    try:
        EmailMessage(subject, text, to=[delivery.member.user.email], headers={"Message-ID": messages.message_id(delivery)}).send()
    except (SMTPException, OSError) as error:
        return f"the mail server did not take it: {error}"
    return ""

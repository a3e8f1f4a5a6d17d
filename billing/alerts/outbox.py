"""Delivers the messages that wait: each attempt is claimed first, so that two processes never make the same one."""

import asyncio
from smtplib import SMTPException

from django.core.mail import EmailMessage

from billing.alerts import messages, webhook
from billing.alerts.webhook import Outgoing
from billing.models import Delivery
from projects.vault import Undecipherable

BATCH = 50
"""Messages of one round: those to webhooks go out together, so that one that hangs delays no other."""


def deliver_due() -> int:
    """Makes the attempts that are due; returns how many it made."""
    claimed = [delivery for delivery in Delivery.objects.due()[:BATCH] if delivery.claim()]
    post([delivery for delivery in claimed if delivery.webhook])
    for delivery in claimed:
        if delivery.member:
            delivery.conclude(mail(delivery))
    return len(claimed)


def post(deliveries: list[Delivery]) -> None:
    outgoing = {delivery: signed for delivery in deliveries if (signed := sign(delivery))}
    results = asyncio.run(webhook.post_all(list(outgoing.values()))) if outgoing else []
    for delivery, result in zip(outgoing, results, strict=True):
        delivery.conclude(result.reason, final=result.final)


def sign(delivery: Delivery) -> Outgoing | None:
    """The message as it goes out now; None, and noted, where its secret cannot be read."""
    assert delivery.webhook is not None
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

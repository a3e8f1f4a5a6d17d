"""Corrections of records that were settled long ago, made by a command beside the gateway's processes: through their outbox."""

import time

from billing.ledger.entry import Entry
from billing.ledger.redis.posting import AGAIN_S, MARK_S, SETTLED
from billing.ledger.redis.reader import answering
from billing.ledger.redis.scripts import LATE, prefix
from billing.ledger.steps import encode_draft
from billing.models import Outbox, UsageRecord


def keep_correction(correction: Entry) -> None:
    """Posts it, unless it has been posted, and moves what the budgets have spent. Raises LedgerUnavailable."""
    while not UsageRecord.objects.filter(pk=correction.id).exists():
        row = Outbox.objects.filter(project=correction.project_id).first()
        drained = f"{row.drained_ms}-{row.drained_seq}" if row else "0-0"
        arguments = (correction.id.hex, correction.cost_nano, correction.key_id, correction.day.isoformat(), encode_draft(correction))
        with answering() as store:
            reply = store.eval(LATE.text, 1, prefix(correction.project_id), *arguments, MARK_S, drained, SETTLED)
        if reply[0] != b"again":
            return
        time.sleep(AGAIN_S)

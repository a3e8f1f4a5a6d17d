"""Writing of corrections to the record stream, for commands that run outside the gateway processes."""

import time

from billing.ledger.redis.client.blocking_client import redis_errors
from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.redis.client.scripts import WRITE_IF_ABSENT
from billing.ledger.redis.outbox.writer import DEDUP_TTL_S, RETRY_DELAY_S, SETTLED_MARKER
from billing.ledger.usage_entry import UsageEntry, encode_entry
from billing.models import StreamCursor, UsageRecord


def save_correction(correction: UsageEntry) -> None:
    """Write a correction to the stream and add its cost to open windows, unless it was already written.

    SQL and the stream are searched for it. If the stream is drained and trimmed in between, both searches are
    repeated. Raises LedgerUnavailable.
    """
    while not UsageRecord.objects.filter(pk=correction.id).exists():
        cursor = StreamCursor.objects.filter(project=correction.project_id).first()
        last_id = f"{cursor.last_id_ms}-{cursor.last_id_seq}" if cursor else "0-0"
        with redis_errors() as client:
            reply = client.eval(
                WRITE_IF_ABSENT.text,
                1,
                key_prefix(correction.project_id),
                correction.id.hex,
                correction.cost_nano,
                correction.key_id,
                correction.day.isoformat(),
                encode_entry(correction),
                DEDUP_TTL_S,
                last_id,
                SETTLED_MARKER,
            )
        if reply[0] != b"retry":
            return
        time.sleep(RETRY_DELAY_S)

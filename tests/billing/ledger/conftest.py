"""Fixtures of all tests of the ledger."""

import pytest

from billing.ledger.audit import run
from billing.ledger.redis.reader import RedisReader
from billing.ledger.sql.reader import SqlReader


@pytest.fixture(autouse=True)
def no_recheck_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the audit's second pass start at once."""
    monkeypatch.setattr(run, "RECHECK_DELAY_S", 0.0)
    for reader in (RedisReader, SqlReader):
        monkeypatch.setattr(reader, "orphan_recheck_delay_s", 0.0)

"""The blocking Redis client for pages, commands and the audit, which do not run in the event loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing.ledger.interface import REDIS, LedgerUnavailable

TIMEOUT_S = 1.0


@lru_cache(maxsize=1)
def blocking_client() -> Any:
    return redis.Redis.from_url(
        settings.ENV.redis_url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),
    )


@contextmanager
def redis_errors() -> Iterator[Any]:
    """Yield the client. Raise LedgerUnavailable if Redis does not answer, or rejects a command."""
    try:
        yield blocking_client()
    except redis.RedisError as error:
        raise LedgerUnavailable(str(error), component=REDIS) from error

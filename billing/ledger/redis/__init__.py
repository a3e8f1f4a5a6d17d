"""The ledger of several processes: counters, limits and reservations in Redis, records in PostgreSQL."""

from billing.ledger.redis.ledger import OutagePolicy, RedisLedger

__all__ = ["OutagePolicy", "RedisLedger"]

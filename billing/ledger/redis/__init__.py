"""The ledger of several processes: counters, limits and reservations in Redis, records in PostgreSQL."""

from billing.ledger.redis.ledger import Policy, RedisLedger

__all__ = ["Policy", "RedisLedger"]

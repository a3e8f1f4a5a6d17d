"""Ids that the gateway generates. They serve as primary keys; ids of clients and vendors never do."""

import os
import time
from datetime import datetime
from uuid import UUID

VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
RANDOM_BITS = (1 << 80) - 1
RANDOM_MASK = RANDOM_BITS & ~((0xF << 76) | (0x3 << 62))


def uuid7() -> UUID:
    """Return a UUID that sorts by its creation time (RFC 9562, section 5.7).

    It has 48 bits of milliseconds and 74 random bits.
    """
    milliseconds = time.time_ns() // 1_000_000
    return UUID(
        int=(milliseconds << 80) | (int.from_bytes(os.urandom(10), "big") & RANDOM_MASK) | VERSION_AND_VARIANT
    )


def uuid7_floor(created_at: datetime) -> UUID:
    """Return an id that is at most as large as every id created at this time or later."""
    return UUID(int=int(created_at.timestamp() * 1000) << 80)

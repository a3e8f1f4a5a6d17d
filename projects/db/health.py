"""Whether the database answers."""

import time

import structlog

log = structlog.get_logger()


class DatabaseHealth:
    """Whether the database answers, as the last poll found it. `last_ok_at` is in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.is_down = False
        self.last_ok_at = time.monotonic()

    def mark_up(self) -> None:
        if self.is_down:
            log.info("the database is back")
        self.is_down, self.last_ok_at = False, time.monotonic()

    def mark_down(self, reason: BaseException) -> None:
        if not self.is_down:
            log.error(
                "the database is away: serving from memory", reason=f"{type(reason).__name__}: {reason}"
            )
        self.is_down = True

    def down_for_s(self) -> float:
        """Return the seconds since the database last answered."""
        return time.monotonic() - self.last_ok_at


database_health = DatabaseHealth()

"""Health of the database: whether it answered the last poll of the config version."""

import time

import structlog

log = structlog.get_logger()


class DatabaseHealth:
    """State of the database. `last_ok_at` is in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.is_down = False
        self.last_ok_at = time.monotonic()

    def mark_up(self) -> None:
        if self.is_down:
            log.info("database_up", message="The database is up again.")
        self.is_down, self.last_ok_at = False, time.monotonic()

    def mark_down(self, reason: BaseException) -> None:
        if not self.is_down:
            message = "The database is down. The gateway uses cached configuration until it is up again."
            log.error("database_down", message=message, reason=f"{type(reason).__name__}: {reason}")
        self.is_down = True

    def down_for_s(self) -> float:
        """Return the seconds since the database last answered."""
        return time.monotonic() - self.last_ok_at


database_health = DatabaseHealth()

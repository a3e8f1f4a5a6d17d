"""Usability of a credential, or of one of its models.

A credential may be out of credit or revoked, or may have no access to a model.
"""

from proxy.routing.health.published import Problem

PROBE_INTERVAL_S = 300
"""Seconds after which one live request tries an unusable credential again."""
SHARED_THRESHOLD = 3
"""Consecutive failures that make an account of several projects unusable.

One project could cause a failure by its request. It can hardly cause several in a row, because requests of
other projects succeed in between.
"""


class Usability:
    """State of a credential: usable or not. Times are Unix times in seconds."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.failures = 0
        self.is_usable = True
        self.next_probe_at = 0.0
        self.next_report_at = 0.0
        self.reason = ""
        self.is_alerted = False

    def begin_call(self, now: float) -> bool:
        """Return whether this call is a probe. If it is, the next one is postponed."""
        if self.is_usable or now < self.next_probe_at:
            return False
        self.next_probe_at = now + PROBE_INTERVAL_S
        return True

    def is_skipped(self, now: float) -> bool:
        """Return whether another credential should be used instead, if there is one."""
        return not self.is_usable and now < self.next_probe_at

    def take_over(self, problem: Problem | None, *, was_published: bool) -> None:
        """Take over the state of the other processes.

        `was_published` is true if it was unusable there before.
        """
        if problem is not None:
            self.is_usable = False
            self.next_probe_at = max(self.next_probe_at, problem.until)
            self.reason = self.reason or problem.reason
        elif was_published:
            self.record_success()

    @property
    def problem(self) -> Problem | None:
        """Return what the other processes must know; None if the credential is usable."""
        return None if self.is_usable else Problem(self.next_probe_at, self.reason)

    def record_success(self) -> bool:
        """Make the credential usable. Return whether it was not."""
        recovered, self.is_usable, self.failures, self.reason = not self.is_usable, True, 0, ""
        return recovered

    def record_failure(self, now: float, reason: str) -> bool:
        """Count a failure. Return whether it made the credential unusable."""
        self.failures += 1
        self.reason = reason
        self.next_probe_at = now + PROBE_INTERVAL_S
        if not self.is_usable or self.failures < self.threshold:
            return False
        self.is_usable = False
        return True

"""Failpoints: named places at which a test kills this process, to show that nothing is lost.

They are off unless `GATEWAY_FAILPOINT` names one: `commit.before`, or `commit.before:3` for the third time
that the process reaches it. `docs/ledger.md` lists the names.
"""

import os
import signal
from collections import Counter

from django.conf import settings

armed, _, _nth = settings.ENV.gateway_failpoint.partition(":")
nth = int(_nth or 1)
passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill the process with SIGKILL if the environment names this failpoint."""
    if name != armed:
        return
    passed[name] += 1
    if passed[name] == nth:
        os.kill(os.getpid(), signal.SIGKILL)

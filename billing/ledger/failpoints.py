"""Failpoints: named places at which a test kills the process, to show that no spend is lost.

The environment variable `GATEWAY_FAILPOINT` names one, such as `commit.before`. With `commit.before:3`, the
process is killed when it reaches the place for the third time. `docs/ledger.md` lists the names.
"""

import os
import signal
from collections import Counter

from django.conf import settings

armed, _, _nth = settings.ENV.gateway_failpoint.partition(":")
nth = int(_nth or 1)
passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kill the process with SIGKILL if the environment selects this failpoint and this pass of it."""
    if name != armed:
        return
    passed[name] += 1
    if passed[name] == nth:
        os.kill(os.getpid(), signal.SIGKILL)

"""Named places at which a test lets this process die, as a power cut would, to show that nothing is lost.

Off unless `GATEWAY_FAILPOINT` names one: `commit.before`, or `commit.before:3` for the third time that it is
passed. The names are listed in `docs/ledger.md`.
"""

import os
import signal
from collections import Counter

from django.conf import settings

armed, _, _nth = settings.ENV.gateway_failpoint.partition(":")
nth = int(_nth or 1)
passed: Counter[str] = Counter()


def failpoint(name: str) -> None:
    """Kills the process if this is the one that the environment names."""
    if name != armed:
        return
    passed[name] += 1
    if passed[name] == nth:
        os.kill(os.getpid(), signal.SIGKILL)

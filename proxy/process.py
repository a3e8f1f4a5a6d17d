"""What one gateway process holds while it serves: its connections to providers, and whether it still takes requests."""

from proxy.upstream import Upstream


class Process:
    """`ready` is what /ready says: from the end of the start until the process is told to stop."""

    def __init__(self) -> None:
        self.upstream: Upstream | None = None
        self.ready = False


process = Process()


def connections() -> Upstream:
    assert process.upstream is not None, "the process has not been started"
    return process.upstream

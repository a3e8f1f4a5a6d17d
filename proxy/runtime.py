"""What one gateway process holds while it serves: its connections to providers, and whether it still takes requests."""

from proxy.upstream.client import UpstreamClient


class Runtime:
    """`ready` is what /ready says: from the end of the start until the process is told to stop."""

    def __init__(self) -> None:
        self.upstream: UpstreamClient | None = None
        self.ready = False


runtime = Runtime()


def upstream_client() -> UpstreamClient:
    assert runtime.upstream is not None, "the process has not been started"
    return runtime.upstream

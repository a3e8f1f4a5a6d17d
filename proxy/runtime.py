"""State of this gateway process: its upstream clients, and whether it is ready for requests."""

from proxy.providers.catalog import DEMO
from proxy.providers.demo import DemoClient
from proxy.upstream.client import UpstreamClient


class Runtime:
    """State that the server sets when it starts and stops.

    `ready` is true from the end of the start until the server begins to stop; /ready reports it. `clients`
    contains the clients that `Provider.client` names. The HTTP client is added at the start.
    """

    def __init__(self) -> None:
        self.clients: dict[str, UpstreamClient] = {DEMO: DemoClient()}
        self.ready = False


runtime = Runtime()

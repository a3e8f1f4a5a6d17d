"""Adaptation of requests to a target's format: replaces tools and opaque parts of other vendors."""

from proxy.formats.neutral import Origin, Request
from proxy.formats.tools.offers import Settings, offer_server_tools
from proxy.formats.tools.opaque_parts import replace_opaque_parts


def adapt_to_target(request: Request, target: Origin, runs: Settings) -> tuple[Request, list[str]]:
    """Return the request without tools and parts that only another vendor knows, and what was dropped.

    `runs` contains the server tools that the target runs. Raises UnsupportedFeature if the request has a tool
    or a part that cannot be left out.
    """
    request, dropped_tools = offer_server_tools(request, target, runs)
    request, dropped_parts = replace_opaque_parts(request, target)
    return request, [*dropped_tools, *dropped_parts]

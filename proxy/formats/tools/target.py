"""Adapt requests to a target's format: remove tools and opaque parts that only another vendor knows."""

from proxy.formats.neutral import Origin, Request
from proxy.formats.tools.offers import Settings, offer_server_tools
from proxy.formats.tools.opaque_parts import replace_opaque_parts


def adapt_to_target(request: Request, target: Origin, runs: Settings) -> tuple[Request, list[str]]:
    """Return the request without content that only another vendor knows, and what was dropped.

    `runs` are the server tools that the target runs. Raises UnsupportedFeature for what cannot be left out.
    """
    request, dropped_tools = offer_server_tools(request, target, runs)
    request, dropped_parts = replace_opaque_parts(request, target)
    return request, [*dropped_tools, *dropped_parts]

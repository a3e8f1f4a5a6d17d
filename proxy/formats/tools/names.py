"""Flat names: one name for a member of a namespace or toolset, for formats without groups of tools.

They are written as Codex writes them (github.com/openai/codex, codex-rs/protocol/src/tool_name.rs).
"""

import hashlib
from collections.abc import Iterable

from proxy.formats.neutral import (
    Request,
    Tool,
    VendorTool,
)

DEFAULT_GROUP = "functions"
"""Codex's namespace of the tools that need none.

It declares them there for models that take all their tools in one item, and finds a call of such a tool by
its plain name (github.com/openai/codex/issues/42488).
"""
TYPED = "typed"
"""Group of the tools that have a type of a vendor's own; their names do not show it."""
DIGEST_LENGTH = 8


def flat_name(group: str, name: str) -> str:
    """Return the name of a group's member as one name."""
    return name if group in ("", DEFAULT_GROUP, TYPED) else f"{group.rstrip('_')}__{name.lstrip('_')}"


class FlatNames:
    """Names of the tools of one request, each of them unique.

    `taken` are the names of plain tools, which do not change. A name that is taken gets a digest of the group
    and the name, so that the same tools always have the same names.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.names: dict[tuple[str, str], str] = {}

    def add(self, group: str, name: str) -> str:
        """Return the flat name of a member, which is now taken."""
        flat = flat_name(group, name)
        if (group, name) not in self.names and flat in self.taken:
            digest = hashlib.sha256(f"{group}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
            flat = f"{flat}_{digest[:DIGEST_LENGTH]}"
        self.taken.add(flat)
        return self.names.setdefault((group, name), flat)

    def find(self, group: str, name: str) -> str:
        """Return the flat name of a member, also of one that the request does not declare."""
        return self.names.get((group, name), flat_name(group, name))


def vendor_tools(request: Request, origin: str) -> dict[str, VendorTool]:
    """Return the tools that the client declares in its vendor's own way, by their names in the request."""
    return {
        tool.name: tool.vendor
        for tool in request.tools
        if isinstance(tool, Tool) and tool.vendor is not None and tool.vendor.origin == origin
    }

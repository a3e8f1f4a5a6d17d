"""Flat names of members of tool groups, for formats that do not have groups.

They have the same form as in Codex (github.com/openai/codex, codex-rs/protocol/src/tool_name.rs).
"""

import hashlib
from collections.abc import Iterable

from proxy.formats.neutral import (
    Request,
    Tool,
    VendorTool,
)

DEFAULT_GROUP = "functions"
"""Codex's namespace for tools that need no namespace.

For some models, Codex declares all tools in one item, and then puts these tools into this namespace. It
recognises a call of such a tool only by its plain name (github.com/openai/codex/issues/42488).
"""
TYPED = "typed"
"""The group of typed tools. Flat names do not contain it."""
DIGEST_LENGTH = 8


def flat_name(group: str, name: str) -> str:
    """Return the flat name of a member of a group."""
    return name if group in ("", DEFAULT_GROUP, TYPED) else f"{group.rstrip('_')}__{name.lstrip('_')}"


class FlatNames:
    """Unique names of the tools of one request.

    `taken` contains the names that are in use, first those of plain tools, which do not change. If a flat
    name is in use, a digest of the group and the name is appended. The same tools therefore always have the
    same names.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)
        self.names: dict[tuple[str, str], str] = {}

    def add(self, group: str, name: str) -> str:
        """Return the flat name of a member, and store that it is in use."""
        flat = flat_name(group, name)
        if (group, name) not in self.names and flat in self.taken:
            digest = hashlib.sha256(f"{group}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
            flat = f"{flat}_{digest[:DIGEST_LENGTH]}"
        self.taken.add(flat)
        return self.names.setdefault((group, name), flat)

    def find(self, group: str, name: str) -> str:
        """Return the flat name of a member. The request need not declare the member."""
        return self.names.get((group, name), flat_name(group, name))


def vendor_tools(request: Request, origin: str) -> dict[str, VendorTool]:
    """Return the vendor tools of a request, by name."""
    return {
        tool.name: tool.vendor
        for tool in request.tools
        if isinstance(tool, Tool) and tool.vendor is not None and tool.vendor.origin == origin
    }

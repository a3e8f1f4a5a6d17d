"""The ledger's Lua scripts: each is one atomic step on the keys of one project."""

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from pathlib import Path

from billing.ledger.redis.connection import Argument, Command

FOLDER = Path(__file__).parent / "lua"
COMMON = (FOLDER / "common.lua").read_text()


@dataclass(frozen=True, slots=True)
class Script:
    text: str
    digest: str

    def on(self, project_id: int, arguments: tuple[Argument, ...]) -> Command:
        return ("EVALSHA", self.digest, 1, prefix(project_id), *arguments)

    def in_full(self, project_id: int, arguments: tuple[Argument, ...]) -> Command:
        """For a server that has forgotten its scripts."""
        return ("EVAL", self.text, 1, prefix(project_id), *arguments)


def load(*names: str) -> Script:
    text = COMMON + "".join((FOLDER / f"{name}.lua").read_text() for name in names)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


@lru_cache(maxsize=4096)
def prefix(project_id: int) -> str:
    """What the keys of a project begin with. The braces keep them in one slot of a cluster."""
    return f"gw:{{p{project_id}}}:"


RESERVE = load("minutes", "reserve")
STANDING = load("minutes", "standing")
SETTLE = load("settle")
LATE = load("late")
CORRECT = load("correct")
RECORD = load("record")
VOID = load("void")
ENTER = load("enter")
BEGIN = load("begin")
OPEN = load("open")
ASSERT = load("assert")
TRIM = load("trim")
OWNERS = load("owners")
SNAPSHOT = load("snapshot")
ALL = (RESERVE, STANDING, SETTLE, LATE, CORRECT, RECORD, VOID, ENTER, BEGIN, OPEN, ASSERT, TRIM, OWNERS)
GREETING: tuple[Command, ...] = tuple(("SCRIPT", "LOAD", script.text) for script in ALL)

PROJECTS = "gw:projects"
"""A set of the ids of all projects: whose outboxes are drained."""
LEASE = "gw:lease"
"""The process that drains outboxes and looks for dead processes."""


def alive(process: str) -> str:
    """A key that a process keeps alive for as long as it lives."""
    return f"gw:alive:{process}"

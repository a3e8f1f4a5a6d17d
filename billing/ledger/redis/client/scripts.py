"""The ledger's Lua scripts. Redis runs each of them atomically, on the keys of one project."""

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from billing.ledger.redis.client.keys import key_prefix
from billing.ledger.redis.client.protocol import Argument, Command

LUA_FOLDER = Path(__file__).parent.parent / "lua"
COMMON = (LUA_FOLDER / "common.lua").read_text()


@dataclass(frozen=True, slots=True)
class Script:
    """The text of a script and its SHA-1 digest, by which a loaded script is called."""

    text: str
    digest: str

    def evalsha_command(self, project_id: int, arguments: tuple[Argument, ...]) -> Command:
        return ("EVALSHA", self.digest, 1, key_prefix(project_id), *arguments)

    def eval_command(self, project_id: int, arguments: tuple[Argument, ...]) -> Command:
        """Return a command with the whole text, for a server that does not have the script (any more)."""
        return ("EVAL", self.text, 1, key_prefix(project_id), *arguments)


def load_script(*names: str) -> Script:
    text = COMMON + "".join((LUA_FOLDER / f"{name}.lua").read_text() for name in names)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


RESERVE = load_script("sliding_window", "reserve")
EXTEND = load_script("extend")
RATE_STATUS = load_script("sliding_window", "rate_status")
SETTLE = load_script("settle")
WRITE_IF_ABSENT = load_script("write_if_absent")
WRITE_CORRECTION = load_script("write_correction")
WRITE_RECORD = load_script("write_record")
CANCEL = load_script("cancel")
DEFER = load_script("defer")
GET_OR_CREATE_EPOCH = load_script("get_or_create_epoch")
REGISTER_EPOCH = load_script("register_epoch")
OPEN_WINDOW = load_script("open_window")
RESTORE = load_script("restore")
TRIM = load_script("trim")
RESERVATIONS_BY_PROCESS = load_script("reservations_by_process")
SNAPSHOT = load_script("snapshot")
ALL_SCRIPTS = (
    RESERVE,
    EXTEND,
    RATE_STATUS,
    SETTLE,
    WRITE_IF_ABSENT,
    WRITE_CORRECTION,
    WRITE_RECORD,
    CANCEL,
    DEFER,
    GET_OR_CREATE_EPOCH,
    REGISTER_EPOCH,
    OPEN_WINDOW,
    RESTORE,
    TRIM,
    RESERVATIONS_BY_PROCESS,
)
LOAD_COMMANDS: tuple[Command, ...] = tuple(("SCRIPT", "LOAD", script.text) for script in ALL_SCRIPTS)

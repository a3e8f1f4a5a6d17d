"""Which result belongs to which call, in the history that a client sends."""

from msgspec.structs import replace

from proxy.formats.neutral import Part, ToolCall, ToolResult


class Calls:
    """Gives every call an id of its own where a client leaves ids out or repeats them, and every result that of its call and the
    name of its tool, which results do not say. The same history gets the same ids each time, for the sake of prompt caches."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.waiting: list[tuple[str, ToolCall]] = []
        self.known: dict[str, ToolCall] = {}

    def linked(self, part: Part) -> Part:
        match part:
            case ToolCall():
                return self.make(part)
            case ToolResult():
                call = self.answered(part.call_id)
                return replace(part, call_id=call.id, name=call.name) if call else part
            case _:
                return part

    def make(self, part: ToolCall) -> ToolCall:
        call = replace(part, id=self.unique(part.id))
        self.waiting.append((part.id, call))
        self.known.setdefault(part.id, call)
        return call

    def unique(self, given: str) -> str:
        made, number = given, len(self.taken)
        while not made or made in self.taken:
            made, number = f"{given or 'call'}_{number}", number + 1
        self.taken.add(made)
        return made

    def answered(self, given: str) -> ToolCall | None:
        for pair in self.waiting:
            if pair[0] == given:
                self.waiting.remove(pair)
                return pair[1]
        return self.known.get(given)

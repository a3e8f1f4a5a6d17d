"""Which result belongs to which call, in the history that a client sends."""

from msgspec.structs import replace

from proxy.formats.neutral import Part, ToolCall, ToolResult


class ToolCallLinker:
    """Gives every call an id of its own where a client leaves ids out or repeats them, and every result that of its call and the
    name of its tool, which results do not say. The same history gets the same ids each time, for the sake of prompt caches.
    """

    def __init__(self) -> None:
        self.used_ids: set[str] = set()
        self.unanswered: list[tuple[str, ToolCall]] = []
        self.calls_by_given_id: dict[str, ToolCall] = {}

    def link(self, part: Part) -> Part:
        match part:
            case ToolCall():
                return self.add_call(part)
            case ToolResult():
                call = self.match_result(part.call_id)
                return replace(part, call_id=call.id, name=call.name) if call else part
            case _:
                return part

    def add_call(self, part: ToolCall) -> ToolCall:
        call = replace(part, id=self.unique_id(part.id))
        self.unanswered.append((part.id, call))
        self.calls_by_given_id.setdefault(part.id, call)
        return call

    def unique_id(self, given: str) -> str:
        made, number = given, len(self.used_ids)
        while not made or made in self.used_ids:
            made, number = f"{given or 'call'}_{number}", number + 1
        self.used_ids.add(made)
        return made

    def match_result(self, given: str) -> ToolCall | None:
        for pair in self.unanswered:
            if pair[0] == given:
                self.unanswered.remove(pair)
                return pair[1]
        return self.calls_by_given_id.get(given)

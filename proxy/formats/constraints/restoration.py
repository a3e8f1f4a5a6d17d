"""Restoration of the client's names of tools and arguments in responses."""

from collections.abc import Iterator

from msgspec.structs import replace

from proxy.formats.constraints.aliases import Aliases, restore_arguments
from proxy.formats.neutral import (
    Event,
    Part,
    PartDelta,
    PartEnded,
    PartStarted,
    Response,
    ToolCall,
)


def restore_call(call: ToolCall, aliases: Aliases) -> ToolCall:
    """Return a call of the model with the client's names of the tool and of its arguments."""
    name = original_name(call.name, aliases)
    if not aliases.changes_arguments(name):
        return replace(call, name=name)
    return replace(call, name=name, arguments=original_arguments(name, call.arguments, aliases))


def original_name(name: str, aliases: Aliases) -> str:
    return next((own for own, alias in aliases.tools.items() if alias == name), name)


def original_arguments(name: str, arguments: str, aliases: Aliases) -> str:
    return restore_arguments(arguments, aliases.keys.get(name, {}), wrapped=name in aliases.wrapped)


def restore_part(part: Part, aliases: Aliases) -> Part:
    return restore_call(part, aliases) if isinstance(part, ToolCall) else part


def restore_response(response: Response, aliases: Aliases) -> Response:
    """Return a response with the client's own names."""
    if not aliases:
        return response
    choices = tuple(
        replace(choice, parts=tuple(restore_part(part, aliases) for part in choice.parts))
        for choice in response.choices
    )
    return replace(response, choices=choices)


class StreamRestorer:
    """Restores the names in the events of one stream.

    If argument names were replaced, the arguments of a call are sent only when the call is complete, because
    a chunk may end inside a name.
    """

    def __init__(self, aliases: Aliases) -> None:
        self.aliases = aliases
        self.arguments: dict[tuple[int, int], tuple[str, list[str]]] = {}
        """The tool and the received arguments of each open call, by choice and index."""

    def restore(self, event: Event) -> Iterator[Event]:
        """Yield the events for the client that replace one event of the provider."""
        match event:
            case PartStarted(part=ToolCall() as call):
                yield replace(event, part=self.start(event, call))
            case PartDelta() if pending := self.arguments.get((event.choice, event.index)):
                pending[1].append(event.text)
            case PartEnded():
                yield from self.end(event)
                yield event
            case _:
                yield event

    def start(self, event: PartStarted, call: ToolCall) -> ToolCall:
        name = original_name(call.name, self.aliases)
        if not self.aliases.changes_arguments(name):
            return replace(call, name=name)
        self.arguments[event.choice, event.index] = name, [call.arguments]
        return replace(call, name=name, arguments="")

    def end(self, event: PartEnded) -> Iterator[PartDelta]:
        name, pieces = self.arguments.pop((event.choice, event.index), ("", []))
        if text := "".join(pieces):
            text = original_arguments(name, text, self.aliases)
            yield PartDelta(choice=event.choice, index=event.index, text=text)

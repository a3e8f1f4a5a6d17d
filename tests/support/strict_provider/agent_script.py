"""The turns of the scripted model: a text with one tool call, two calls at once, a text with a marker."""

import json
from dataclasses import dataclass
from typing import Any

from tests.support.strict_provider.sample_arguments import sample

MARKER = "MARKER"
TOOL_OUTPUT = "TOOL-RAN-42"
"""Output of each tool. The command does not contain it, so an echo of the command does not count."""
COMMAND = "printf TOOL-RAN-%d 42"
WANTED_RESULTS = 3
FINISHED = f"{MARKER} results={WANTED_RESULTS} ran={WANTED_RESULTS}"
"""What the final text contains if every call came back with its result."""
ANY_TOOL = "*"
SHELL_TOOLS = ("exec_command", "shell_command", "shell", "local_shell", "run_shell_command", "Bash", "bash")
"""Tools of agents that run a command, by preference."""


@dataclass(frozen=True)
class Tool:
    """A tool that the client runs. A freeform tool takes text, and the others take JSON."""

    name: str
    schema: dict[str, Any]
    is_freeform: bool = False


@dataclass(frozen=True)
class Call:
    tool: Tool
    arguments: dict[str, Any]
    text: str = ""
    """Input of a freeform tool."""


@dataclass(frozen=True)
class Conversation:
    """The input of the model: the tools, and the calls and results since the user's last message."""

    tools: tuple[Tool, ...] = ()
    results: tuple[str, ...] = ()
    may_call: bool = True
    may_call_in_parallel: bool = True
    forced_tool: str = ""
    """Name of the tool that must be called, ANY_TOOL, or nothing."""
    answer_schema: dict[str, Any] | None = None
    thinks: bool = True


@dataclass(frozen=True)
class Turn:
    thought: str = ""
    text: str = ""
    calls: tuple[Call, ...] = ()


def next_turn(conversation: Conversation) -> Turn:
    count = len(conversation.results)
    thought = f"Step {count}: decide what to do next." if conversation.thinks else ""
    calls = calls_of(conversation)
    if calls:
        return Turn(thought, "I will use a tool. " if not count else "", calls)
    if conversation.answer_schema is not None:
        answer = sample(conversation.answer_schema, COMMAND, count)
        return Turn(thought, json.dumps(answer, ensure_ascii=False))
    return Turn(thought, f"{MARKER} results={count} ran={count_of_runs(conversation)} “done” ✓")


def calls_of(conversation: Conversation) -> tuple[Call, ...]:
    """Return the calls of the next turn: two at once after the first result, if the client allows it."""
    tool = wanted_tool(conversation)
    missing = WANTED_RESULTS - len(conversation.results)
    if tool is None or not conversation.may_call or (missing <= 0 and not conversation.forced_tool):
        return ()
    both = len(conversation.results) == 1 and conversation.may_call_in_parallel
    return tuple(call_of(tool, len(conversation.results) + i) for i in range(2 if both else 1))


def wanted_tool(conversation: Conversation) -> Tool | None:
    """Return the tool that the request forces, or else one that runs a command, or else the first one."""
    by_name = {tool.name: tool for tool in conversation.tools}
    preferred = (conversation.forced_tool, *SHELL_TOOLS)
    found = (by_name[name] for name in preferred if name in by_name)
    return next(found, next(iter(conversation.tools), None))


def call_of(tool: Tool, number: int) -> Call:
    if tool.is_freeform:
        return Call(tool, {}, COMMAND)
    arguments = sample(tool.schema, COMMAND, number)
    return Call(tool, arguments if isinstance(arguments, dict) else {})


def count_of_runs(conversation: Conversation) -> int:
    return sum(TOOL_OUTPUT in result for result in conversation.results)

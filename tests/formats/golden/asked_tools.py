"""Requests about tools: declared, chosen, called, answered."""

from typing import Any

from tests.formats.golden.words import (
    CHAT_TOOL,
    CLAUDE_TOOL,
    GEMINI_TOOL,
    RESPONSES_TOOL,
    SCHEMA,
    USER,
    Bodies,
    Body,
    assistant,
    chat,
    claude,
    function,
    google,
    responses,
    turn,
    user,
)

OTHERS = [{"name": "get_time", "description": "The time"}, {"name": "get_news", "description": "The news"}]
ANY = {"type": "object", "properties": {}}
CHAT_TOOLS = [CHAT_TOOL, *({"type": "function", "function": {**other, "parameters": ANY}} for other in OTHERS)]
RESPONSES_TOOLS = [RESPONSES_TOOL, *({"type": "function", **other, "parameters": ANY, "strict": False} for other in OTHERS)]
CLAUDE_TOOLS = [CLAUDE_TOOL, *({**other, "input_schema": ANY} for other in OTHERS)]
GEMINI_TOOLS = [{"functionDeclarations": [function(parametersJsonSchema=SCHEMA), *OTHERS]}]


def chosen(chat_choice: Any, responses_choice: Any, claude_choice: Any, mode: str | None, *names: str) -> Bodies:
    """One choice among three tools, in the words of each format."""
    calling: Body = {"mode": mode, **({"allowedFunctionNames": list(names)} if names else {})}
    return {
        "openai_chat": chat(tools=CHAT_TOOLS, tool_choice=chat_choice),
        "openai_responses": responses(tools=RESPONSES_TOOLS, tool_choice=responses_choice),
        "anthropic": claude_choice and claude(tools=CLAUDE_TOOLS, tool_choice=claude_choice),
        "gemini": google(tools=GEMINI_TOOLS, toolConfig={"functionCallingConfig": calling}),
    }


def allowed(mode: str) -> tuple[Body, Body]:
    """The choice among some of the tools: nested in chat completions, flat in Responses."""
    nested = [{"type": "function", "function": {"name": name}} for name in ("get_time", "get_weather")]
    flat = [{"type": "function", "name": name} for name in ("get_time", "get_weather")]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": nested}}, {
        "type": "allowed_tools",
        "mode": mode,
        "tools": flat,
    }


NAMED = {"type": "function", "function": {"name": "get_time"}}

CHOICES: dict[str, Bodies] = {
    "tools": {
        "openai_chat": chat(tools=CHAT_TOOLS),
        "openai_responses": responses(tools=RESPONSES_TOOLS),
        "anthropic": claude(tools=CLAUDE_TOOLS),
        "gemini": google(tools=GEMINI_TOOLS),
    },
    "any choice": chosen("auto", "auto", {"type": "auto"}, "AUTO"),
    "a call is required": chosen("required", "required", {"type": "any"}, "ANY"),
    "no call is allowed": chosen("none", "none", {"type": "none"}, "NONE"),
    "this very tool": chosen(NAMED, {"type": "function", "name": "get_time"}, {"type": "tool", "name": "get_time"}, "ANY", "get_time"),
    "one of these": chosen(*allowed("required"), None, "ANY", "get_time", "get_weather"),
    "only these": chosen(*allowed("auto"), None, "VALIDATED", "get_time", "get_weather"),
    "one call at a time": {
        "openai_chat": chat(tools=CHAT_TOOLS, parallel_tool_calls=False),
        "openai_responses": responses(tools=RESPONSES_TOOLS, parallel_tool_calls=False),
        "anthropic": claude(tools=CLAUDE_TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}),
        "gemini": None,
    },
    "a strict tool": {
        "openai_chat": chat(tools=[{"type": "function", "function": function(parameters=SCHEMA, strict=True)}]),
        "openai_responses": responses(tools=[{**RESPONSES_TOOL, "strict": True}]),
        "anthropic": claude(tools=[{**CLAUDE_TOOL, "strict": True}]),
        "gemini": None,
    },
    "a tool that takes free text": {
        "openai_chat": chat(tools=[{"type": "custom", "custom": {"name": "patch", "description": "Changes files"}}]),
        "openai_responses": responses(
            tools=[{"type": "custom", "name": "patch", "description": "Changes files"}], tool_choice={"type": "custom", "name": "patch"}
        ),
        "anthropic": None,
        "gemini": None,
    },
    "a tool of the provider's": {
        "openai_chat": chat(web_search_options={}),
        "openai_responses": responses(tools=[{"type": "web_search"}]),
        "anthropic": claude(tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]),
        "gemini": google(tools=[{"googleSearch": {}}]),
    },
}


def chat_call(call_id: str, city: str) -> Body:
    return {"id": call_id, "type": "function", "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'}}


def responses_call(call_id: str, city: str) -> Body:
    return {"type": "function_call", "call_id": call_id, "name": "get_weather", "arguments": f'{{"city":"{city}"}}'}


def claude_call(call_id: str, city: str) -> Body:
    return {"type": "tool_use", "id": call_id, "name": "get_weather", "input": {"city": city}}


def gemini_call(call_id: str, city: str) -> Body:
    return {"functionCall": {**({"id": call_id} if call_id else {}), "name": "get_weather", "args": {"city": city}}}


def gemini_result(call_id: str, response: Body) -> Body:
    return {"functionResponse": {**({"id": call_id} if call_id else {}), "name": "get_weather", "response": response}}


def loop(first: str, second: str) -> Bodies:
    """Two calls with these ids in one turn, each with its result."""
    return {
        "openai_chat": chat(
            USER,
            {"role": "assistant", "content": "Both.", "tool_calls": [chat_call(first, "Paris"), chat_call(second, "Zürich")]},
            {"role": "tool", "tool_call_id": first, "content": "Sun"},
            {"role": "tool", "tool_call_id": second, "content": '{"degrees": 20}'},
            tools=[CHAT_TOOL],
        ),
        "openai_responses": responses(
            USER,
            assistant({"type": "output_text", "text": "Both."}),
            responses_call(first, "Paris"),
            responses_call(second, "Zürich"),
            {"type": "function_call_output", "call_id": first, "output": "Sun"},
            {"type": "function_call_output", "call_id": second, "output": '{"degrees": 20}'},
            tools=[RESPONSES_TOOL],
        ),
        "anthropic": claude(
            USER,
            assistant({"type": "text", "text": "Both."}, claude_call(first, "Paris"), claude_call(second, "Zürich")),
            user(
                {"type": "tool_result", "tool_use_id": first, "content": "Sun"},
                {"type": "tool_result", "tool_use_id": second, "content": '{"degrees": 20}'},
            ),
            tools=[CLAUDE_TOOL],
        ),
        "gemini": google(
            turn("user", {"text": "Hi"}),
            turn("model", {"text": "Both."}, gemini_call(first, "Paris"), gemini_call(second, "Zürich")),
            turn("user", gemini_result(first, {"result": "Sun"}), gemini_result(second, {"degrees": 20})),
            tools=[GEMINI_TOOL],
        ),
    }


LOOPS: dict[str, Bodies] = {
    "calls and results": loop("call_1", "call_2"),
    "calls without ids": loop("", ""),
    "calls with the same id": loop("call_1", "call_1"),
    "a call that failed": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": claude(
            USER,
            assistant(claude_call("call_1", "Atlantis")),
            user({"type": "tool_result", "tool_use_id": "call_1", "content": "No such city", "is_error": True}),
            tools=[CLAUDE_TOOL],
        ),
        "gemini": google(
            turn("user", {"text": "Hi"}),
            turn("model", gemini_call("call_1", "Atlantis")),
            turn("user", gemini_result("call_1", {"error": "No such city"})),
            tools=[GEMINI_TOOL],
        ),
    },
    "a call with free text": {
        "openai_chat": chat(
            USER,
            {"role": "assistant", "tool_calls": [{"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": '+"x"'}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "Done"},
            tools=[{"type": "custom", "custom": {"name": "patch"}}],
        ),
        "openai_responses": responses(
            USER,
            {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": '+"x"'},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done"},
            tools=[{"type": "custom", "name": "patch"}],
        ),
        "anthropic": None,
        "gemini": None,
    },
    "a search of the provider's in the history": {
        "openai_chat": None,
        "openai_responses": responses(
            USER,
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
            assistant({"type": "output_text", "text": "Found."}),
            {"role": "user", "content": "Go on"},
        ),
        "anthropic": claude(
            USER,
            assistant(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Found."},
            ),
            {"role": "user", "content": "Go on"},
        ),
        "gemini": google(
            turn("user", {"text": "Hi"}),
            turn(
                "model",
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
                {"text": "Found."},
            ),
            turn("user", {"text": "Go on"}),
        ),
    },
}

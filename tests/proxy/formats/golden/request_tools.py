"""Requests with tools: declared, chosen, called, answered."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    ANTHROPIC_TOOL,
    CHAT_TOOL,
    GEMINI_TOOL,
    RESPONSES_TOOL,
    SCHEMA,
    USER,
    Bodies,
    Body,
    anthropic_request,
    assistant,
    function,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)

OTHER_TOOLS = [
    {"name": "get_time", "description": "The time"},
    {"name": "get_news", "description": "The news"},
]
ANY_OBJECT = {"type": "object", "properties": {}}
CHAT_TOOLS = [
    CHAT_TOOL,
    *({"type": "function", "function": {**other, "parameters": ANY_OBJECT}} for other in OTHER_TOOLS),
]
RESPONSES_TOOLS = [
    RESPONSES_TOOL,
    *({"type": "function", **other, "parameters": ANY_OBJECT, "strict": False} for other in OTHER_TOOLS),
]
ANTHROPIC_TOOLS = [ANTHROPIC_TOOL, *({**other, "input_schema": ANY_OBJECT} for other in OTHER_TOOLS)]
GEMINI_TOOLS = [{"functionDeclarations": [function(parametersJsonSchema=SCHEMA), *OTHER_TOOLS]}]


def tool_choice_bodies(
    chat_choice: Any, responses_choice: Any, claude_choice: Any, mode: str | None, *names: str
) -> Bodies:
    """Return a choice among three tools in each format."""
    calling: Body = {"mode": mode, **({"allowedFunctionNames": list(names)} if names else {})}
    return {
        "openai_chat": openai_chat_request(tools=CHAT_TOOLS, tool_choice=chat_choice),
        "openai_responses": openai_responses_request(tools=RESPONSES_TOOLS, tool_choice=responses_choice),
        "anthropic": claude_choice and anthropic_request(tools=ANTHROPIC_TOOLS, tool_choice=claude_choice),
        "gemini": gemini_request(tools=GEMINI_TOOLS, toolConfig={"functionCallingConfig": calling}),
    }


def allowed_tools_bodies(mode: str) -> tuple[Body, Body]:
    """Return a choice among some tools: nested in chat completions, flat in Responses."""
    nested = [{"type": "function", "function": {"name": name}} for name in ("get_time", "get_weather")]
    flat = [{"type": "function", "name": name} for name in ("get_time", "get_weather")]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": nested}}, {
        "type": "allowed_tools",
        "mode": mode,
        "tools": flat,
    }


NAMED = {"type": "function", "function": {"name": "get_time"}}

TOOL_CHOICES: dict[str, Bodies] = {
    "tool declarations": {
        "openai_chat": openai_chat_request(tools=CHAT_TOOLS),
        "openai_responses": openai_responses_request(tools=RESPONSES_TOOLS),
        "anthropic": anthropic_request(tools=ANTHROPIC_TOOLS),
        "gemini": gemini_request(tools=GEMINI_TOOLS),
    },
    "tool choice auto": tool_choice_bodies("auto", "auto", {"type": "auto"}, "AUTO"),
    "tool choice required": tool_choice_bodies("required", "required", {"type": "any"}, "ANY"),
    "tool choice none": tool_choice_bodies("none", "none", {"type": "none"}, "NONE"),
    "tool choice named tool": tool_choice_bodies(
        NAMED,
        {"type": "function", "name": "get_time"},
        {"type": "tool", "name": "get_time"},
        "ANY",
        "get_time",
    ),
    "tool choice required from subset": tool_choice_bodies(
        *allowed_tools_bodies("required"), None, "ANY", "get_time", "get_weather"
    ),
    "tool choice auto from subset": tool_choice_bodies(
        *allowed_tools_bodies("auto"), None, "VALIDATED", "get_time", "get_weather"
    ),
    "parallel tool calls disabled": {
        "openai_chat": openai_chat_request(tools=CHAT_TOOLS, parallel_tool_calls=False),
        "openai_responses": openai_responses_request(tools=RESPONSES_TOOLS, parallel_tool_calls=False),
        "anthropic": anthropic_request(
            tools=ANTHROPIC_TOOLS, tool_choice={"type": "auto", "disable_parallel_tool_use": True}
        ),
        "gemini": None,
    },
    "strict tool": {
        "openai_chat": openai_chat_request(
            tools=[{"type": "function", "function": function(parameters=SCHEMA, strict=True)}]
        ),
        "openai_responses": openai_responses_request(tools=[{**RESPONSES_TOOL, "strict": True}]),
        "anthropic": anthropic_request(tools=[{**ANTHROPIC_TOOL, "strict": True}]),
        "gemini": None,
    },
    "custom tool declaration": {
        "openai_chat": openai_chat_request(
            tools=[{"type": "custom", "custom": {"name": "patch", "description": "Changes files"}}]
        ),
        "openai_responses": openai_responses_request(
            tools=[{"type": "custom", "name": "patch", "description": "Changes files"}],
            tool_choice={"type": "custom", "name": "patch"},
        ),
        "anthropic": None,
        "gemini": None,
    },
    "server tool": {
        "openai_chat": openai_chat_request(web_search_options={}),
        "openai_responses": openai_responses_request(tools=[{"type": "web_search"}]),
        "anthropic": anthropic_request(
            tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2}]
        ),
        "gemini": gemini_request(tools=[{"googleSearch": {}}]),
    },
}


def chat_call(call_id: str, city: str) -> Body:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": "get_weather", "arguments": f'{{"city":"{city}"}}'},
    }


def responses_call(call_id: str, city: str) -> Body:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "get_weather",
        "arguments": f'{{"city":"{city}"}}',
    }


def anthropic_call(call_id: str, city: str) -> Body:
    return {"type": "tool_use", "id": call_id, "name": "get_weather", "input": {"city": city}}


def gemini_call(call_id: str, city: str) -> Body:
    return {
        "functionCall": {
            **({"id": call_id} if call_id else {}),
            "name": "get_weather",
            "args": {"city": city},
        }
    }


def gemini_result(call_id: str, response: Body) -> Body:
    return {
        "functionResponse": {
            **({"id": call_id} if call_id else {}),
            "name": "get_weather",
            "response": response,
        }
    }


def tool_loop(first: str, second: str) -> Bodies:
    """Return two calls with these ids in one turn, each with its result."""
    return {
        "openai_chat": openai_chat_request(
            USER,
            {
                "role": "assistant",
                "content": "Both.",
                "tool_calls": [chat_call(first, "Paris"), chat_call(second, "Zürich")],
            },
            {"role": "tool", "tool_call_id": first, "content": "Sun"},
            {"role": "tool", "tool_call_id": second, "content": '{"degrees": 20}'},
            tools=[CHAT_TOOL],
        ),
        "openai_responses": openai_responses_request(
            USER,
            assistant({"type": "output_text", "text": "Both."}),
            responses_call(first, "Paris"),
            responses_call(second, "Zürich"),
            {"type": "function_call_output", "call_id": first, "output": "Sun"},
            {"type": "function_call_output", "call_id": second, "output": '{"degrees": 20}'},
            tools=[RESPONSES_TOOL],
        ),
        "anthropic": anthropic_request(
            USER,
            assistant(
                {"type": "text", "text": "Both."},
                anthropic_call(first, "Paris"),
                anthropic_call(second, "Zürich"),
            ),
            user(
                {"type": "tool_result", "tool_use_id": first, "content": "Sun"},
                {"type": "tool_result", "tool_use_id": second, "content": '{"degrees": 20}'},
            ),
            tools=[ANTHROPIC_TOOL],
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}),
            turn("model", {"text": "Both."}, gemini_call(first, "Paris"), gemini_call(second, "Zürich")),
            turn("user", gemini_result(first, {"result": "Sun"}), gemini_result(second, {"degrees": 20})),
            tools=[GEMINI_TOOL],
        ),
    }


TOOL_LOOPS: dict[str, Bodies] = {
    "tool calls and results": tool_loop("call_1", "call_2"),
    "tool calls without ids": tool_loop("", ""),
    "tool calls with duplicate ids": tool_loop("call_1", "call_1"),
    "failed tool result": {
        "openai_chat": None,
        "openai_responses": None,
        "anthropic": anthropic_request(
            USER,
            assistant(anthropic_call("call_1", "Atlantis")),
            user(
                {"type": "tool_result", "tool_use_id": "call_1", "content": "No such city", "is_error": True}
            ),
            tools=[ANTHROPIC_TOOL],
        ),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}),
            turn("model", gemini_call("call_1", "Atlantis")),
            turn("user", gemini_result("call_1", {"error": "No such city"})),
            tools=[GEMINI_TOOL],
        ),
    },
    "custom tool call": {
        "openai_chat": openai_chat_request(
            USER,
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "call_1", "type": "custom", "custom": {"name": "patch", "input": '+"x"'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "Done"},
            tools=[{"type": "custom", "custom": {"name": "patch"}}],
        ),
        "openai_responses": openai_responses_request(
            USER,
            {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": '+"x"'},
            {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Done"},
            tools=[{"type": "custom", "name": "patch"}],
        ),
        "anthropic": None,
        "gemini": None,
    },
    "server tool use in history": {
        "openai_chat": None,
        "openai_responses": openai_responses_request(
            USER,
            {
                "type": "web_search_call",
                "id": "ws_1",
                "status": "completed",
                "action": {"type": "search", "query": "x"},
            },
            assistant({"type": "output_text", "text": "Found."}),
            {"role": "user", "content": "Go on"},
        ),
        "anthropic": anthropic_request(
            USER,
            assistant(
                {
                    "type": "server_tool_use",
                    "id": "srvtoolu_1",
                    "name": "web_search",
                    "input": {"query": "x"},
                },
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                {"type": "text", "text": "Found."},
            ),
            {"role": "user", "content": "Go on"},
        ),
        "gemini": gemini_request(
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

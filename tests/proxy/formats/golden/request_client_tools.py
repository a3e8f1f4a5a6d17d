"""Requests with typed tools, and with calls of typed tools in the history."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    ANTHROPIC_TOOL,
    SCHEMA,
    USER,
    Bodies,
    Body,
    anthropic_request,
    assistant,
    function,
    gemini_request,
    openai_responses_request,
    turn,
    user,
)


def only(**bodies: Body) -> Bodies:
    """Return a scenario that only some formats have."""
    return {name: bodies.get(name) for name in ("openai_chat", "openai_responses", "anthropic", "gemini")}


def claude_loop(tool: Body, name: str, given: Body, result: Any = "Done", **call: Any) -> Body:
    """Return a request in which Claude called a tool."""
    return anthropic_request(
        USER,
        assistant({"type": "tool_use", "id": "toolu_1", "name": name, "input": given, **call}),
        user({"type": "tool_result", "tool_use_id": "toolu_1", "content": result}),
        tools=[tool],
    )


def openai_loop(tool: Body, call: Body, output: Body, *items: Body) -> Body:
    """Return a request in which a model of OpenAI called a tool."""
    return openai_responses_request(
        USER, {"call_id": "call_1", **call}, {"call_id": "call_1", **output}, *items, tools=[tool]
    )


SCREENSHOT = {"type": "computer_screenshot", "image_url": "https://a.example/screen.png"}
NAMESPACE = {
    "type": "namespace",
    "name": "crm",
    "description": "The customers.",
    "tools": [
        {"type": "function", **function("find", parameters=SCHEMA)},
        {"type": "function", **function("delete", parameters=SCHEMA)},
    ],
}
CLIENT_TOOLS: dict[str, Bodies] = {
    "shell of the client": only(
        openai_responses=openai_loop(
            {"type": "shell", "environment": {"type": "local"}},
            {"type": "shell_call", "action": {"commands": ["ls"], "timeout_ms": 1000}, "status": "completed"},
            {
                "type": "shell_call_output",
                "output": [{"stdout": "a.txt", "stderr": "bad", "outcome": {"type": "exit", "exit_code": 1}}],
            },
        ),
        anthropic=claude_loop({"type": "bash_20250124", "name": "bash"}, "bash", {"command": "ls"}, "a.txt"),
    ),
    "older shell of the client": only(
        openai_responses=openai_loop(
            {"type": "local_shell"},
            {
                "type": "local_shell_call",
                "id": "lsh_1",
                "status": "completed",
                "action": {
                    "type": "exec",
                    "command": ["ls", "-l"],
                    "env": {},
                    "timeout_ms": None,
                    "user": None,
                    "working_directory": "/work",
                },
            },
            {"type": "local_shell_call_output", "id": "call_1", "output": "a.txt"},
        )
    ),
    "editor of the client": only(
        openai_responses=openai_loop(
            {"type": "apply_patch"},
            {
                "type": "apply_patch_call",
                "status": "completed",
                "operation": {"type": "update_file", "path": "a.txt", "diff": "@@\n-a\n+b"},
            },
            {"type": "apply_patch_call_output", "status": "failed", "output": "No such file"},
        ),
        anthropic=claude_loop(
            {
                "type": "text_editor_20250728",
                "name": "str_replace_based_edit_tool",
                "max_characters": 9000,
                "cache_control": {"type": "ephemeral"},
            },
            "str_replace_based_edit_tool",
            {"command": "view", "path": "a.txt"},
        ),
    ),
    "older editor of the client": only(
        anthropic=anthropic_request(tools=[{"type": "text_editor_20250124", "name": "str_replace_editor"}])
    ),
    "memory of the client": only(
        anthropic=claude_loop(
            {"type": "memory_20250818", "name": "memory"}, "memory", {"command": "view", "path": "/memories"}
        )
    ),
    "computer of the client": only(
        openai_responses=openai_loop(
            {"type": "computer"},
            {
                "type": "computer_call",
                "status": "completed",
                "pending_safety_checks": [],
                "actions": [{"type": "click", "x": 1, "y": 2, "button": "left"}],
            },
            {"type": "computer_call_output", "output": SCREENSHOT},
        ),
        anthropic=claude_loop(
            {
                "type": "computer_20251124",
                "name": "computer",
                "display_width_px": 800,
                "display_height_px": 600,
                "enable_zoom": True,
            },
            "computer",
            {"action": "left_click", "coordinate": [1, 2]},
        ),
        gemini=gemini_request(
            turn("user", {"text": "Hi"}),
            turn("model", {"functionCall": {"name": "click_at", "args": {"x": 1, "y": 2}}}),
            turn(
                "user", {"functionResponse": {"name": "click_at", "response": {"url": "https://a.example"}}}
            ),
            tools=[
                {
                    "computerUse": {
                        "environment": "ENVIRONMENT_BROWSER",
                        "excludedPredefinedFunctions": ["drag_and_drop"],
                    }
                }
            ],
        ),
    ),
    "older computer of the client": only(
        openai_responses=openai_responses_request(
            tools=[
                {
                    "type": "computer_use_preview",
                    "display_width": 800,
                    "display_height": 600,
                    "environment": "linux",
                }
            ]
        ),
        anthropic=anthropic_request(
            tools=[
                {
                    "type": "computer_20241022",
                    "name": "computer",
                    "display_width_px": 800,
                    "display_height_px": 600,
                }
            ]
        ),
    ),
    "tools in groups": only(
        openai_responses=openai_loop(
            NAMESPACE,
            {"type": "function_call", "namespace": "crm", "name": "find", "arguments": '{"city":"Paris"}'},
            {"type": "function_call_output", "output": "One"},
        ),
        anthropic=claude_loop(
            {
                "type": "computer_toolset_20260801",
                "configs": {
                    "screenshot": {"enabled": True},
                    **{name: {"enabled": False} for name in ("zoom", "wait", "scroll")},
                },
            },
            "left_click",
            {"coordinate": [1, 2]},
            toolset_name="computer",
        ),
    ),
    "groups whose flat names meet": only(
        openai_responses=openai_responses_request(
            tools=[
                {"type": "function", **function("crm__find", parameters=SCHEMA)},
                NAMESPACE,
                {**NAMESPACE, "name": "functions", "description": ""},
            ],
            tool_choice={"type": "function", "namespace": "crm", "name": "find"},
        )
    ),
    "tools found later": only(
        openai_responses=openai_loop(
            {"type": "tool_search", "execution": "client", "parameters": SCHEMA},
            {"type": "tool_search_call", "execution": "client", "arguments": {"city": "Paris"}},
            {
                "type": "tool_search_output",
                "execution": "client",
                "status": "completed",
                "tools": [{**NAMESPACE, "tools": NAMESPACE["tools"][:1]}],
            },
            {
                "type": "additional_tools",
                "role": "developer",
                "tools": [{"type": "function", **function("later", parameters=SCHEMA)}],
            },
            {"type": "configuration_update", "reasoning": {"effort": "high"}},
        ),
        anthropic=anthropic_request(
            USER,
            assistant({"type": "tool_use", "id": "toolu_1", "name": "find_tools", "input": {}}),
            user(
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "tool_reference", "tool_name": "get_weather"}],
                }
            ),
            tools=[
                {
                    **ANTHROPIC_TOOL,
                    "defer_loading": True,
                    "input_examples": [{"city": "Paris"}],
                    "eager_input_streaming": True,
                },
                {"name": "find_tools", "input_schema": SCHEMA},
            ],
        ),
    ),
    "tools changed in a system message": only(
        anthropic=anthropic_request(
            USER,
            {
                "role": "system",
                "content": [
                    {
                        "type": "tool_addition",
                        "tool": {
                            "type": "tool_definition",
                            "definition": {"name": "added", "input_schema": SCHEMA},
                        },
                    },
                    {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "get_weather"}},
                ],
            },
            {"role": "user", "content": "Go on"},
            tools=[ANTHROPIC_TOOL, {"name": "kept", "input_schema": SCHEMA}],
        )
    ),
}

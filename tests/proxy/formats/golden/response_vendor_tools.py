"""Responses with code that the provider has run, and with calls of vendor tools."""

import json

from tests.proxy.formats.golden.builders import (
    SCHEMA,
    Bodies,
    Body,
    anthropic_response,
    chat_response,
    function,
    gemini_response,
    message_item,
    output_text,
    responses_response,
)

OPENAI_TOOLS: list[Body] = [
    {"type": "shell", "environment": {"type": "local"}},
    {"type": "local_shell"},
    {"type": "apply_patch"},
    {"type": "computer"},
    {"type": "tool_search", "execution": "client"},
    {
        "type": "namespace",
        "name": "crm",
        "description": "The customers.",
        "tools": [{"type": "function", **function("find", parameters=SCHEMA)}],
    },
]
CLAUDE_TOOLS: list[Body] = [
    {"type": "computer_toolset_20260801"},
    {"type": "bash_20250124", "name": "bash"},
]
CALLS: list[tuple[str, Body]] = [
    ("shell", {"commands": ["ls"], "timeout_ms": 1000}),
    ("local_shell", {"command": ["ls", "-l"]}),
    ("apply_patch", {"operation": {"type": "delete_file", "path": "a.txt"}}),
    ("computer", {"actions": [{"type": "screenshot"}]}),
    ("tool_search", {"query": "mail"}),
    ("crm__find", {"city": "Paris"}),
    ("computer__left_click", {"coordinate": [1, 2]}),
    ("bash", {"command": "ls"}),
]
"""Calls of the tools that the client of the matrix has declared, by their names at a provider."""


def encoded(value: Body) -> str:
    return json.dumps(value, separators=(",", ":"))


VENDOR_TOOL_RESPONSES: dict[str, Bodies] = {
    "calls of tools with a vendor's type": {
        "openai_chat": chat_response(
            {
                "tool_calls": [
                    {
                        "id": f"call_{number}",
                        "type": "function",
                        "function": {"name": name, "arguments": encoded(given)},
                    }
                    for number, (name, given) in enumerate(CALLS, 1)
                ]
            },
            "tool_calls",
        ),
        "openai_responses": responses_response(
            *(
                {
                    "type": "function_call",
                    "id": f"fc_{number}",
                    "call_id": f"call_{number}",
                    "name": name,
                    "arguments": encoded(given),
                    "status": "completed",
                }
                for number, (name, given) in enumerate(CALLS, 1)
            )
        ),
        "anthropic": anthropic_response(
            *(
                {"type": "tool_use", "id": f"call_{number}", "name": name, "input": given}
                for number, (name, given) in enumerate(CALLS, 1)
            ),
            stop="tool_use",
        ),
        "gemini": gemini_response(
            *(
                {"functionCall": {"id": f"call_{number}", "name": name, "args": given}}
                for number, (name, given) in enumerate(CALLS, 1)
            )
        ),
    },
    "calls of a vendor's tools with other arguments": {
        "openai_chat": chat_response(
            {
                "tool_calls": [
                    {
                        "id": f"call_{number}",
                        "type": "function",
                        "function": {"name": name, "arguments": arguments},
                    }
                    for number, (name, arguments) in enumerate(
                        [
                            ("shell", '{"command":"ls"}'),
                            ("local_shell", '{"command":"ls"}'),
                            ("apply_patch", '{"type":"delete_file","path":"a.txt"}'),
                            ("computer", '{"type":"screenshot"}'),
                            ("tool_search", "{}"),
                            ("local_shell", '{"command":['),
                        ],
                        1,
                    )
                ]
            },
            "tool_calls",
        ),
        "openai_responses": None,
        "anthropic": None,
        "gemini": None,
    },
    "code that the provider ran": {
        "openai_chat": None,
        "openai_responses": responses_response(
            {
                "type": "code_interpreter_call",
                "id": "ci_1",
                "status": "completed",
                "container_id": "cntr_1",
                "code": "print(1)",
                "outputs": [{"type": "logs", "logs": "1"}],
            },
            message_item(output_text("It is 1.")),
        ),
        "anthropic": anthropic_response(
            {
                "type": "server_tool_use",
                "id": "srvtoolu_1",
                "name": "bash_code_execution",
                "input": {"command": "echo 1"},
            },
            {
                "type": "bash_code_execution_tool_result",
                "tool_use_id": "srvtoolu_1",
                "content": {
                    "type": "bash_code_execution_result",
                    "stdout": "1",
                    "stderr": "",
                    "return_code": 0,
                    "content": [],
                },
            },
            {"type": "text", "text": "It is 1."},
        ),
        "gemini": gemini_response(
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
            {"text": "It is 1."},
        ),
    },
    "parts of unknown types": {
        "openai_chat": None,
        "openai_responses": responses_response(
            {"type": "item_of_tomorrow", "id": "x_1"}, message_item(output_text("Yes."))
        ),
        "anthropic": anthropic_response(
            {"type": "block_of_tomorrow", "value": 1}, {"type": "text", "text": "Yes."}
        ),
        "gemini": gemini_response({"partOfTomorrow": {"value": 1}}, {"text": "Yes."}),
    },
}

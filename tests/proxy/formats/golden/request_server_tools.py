"""Requests with server tools, and with calls and results of server tools in the history."""

from typing import Any

from tests.proxy.formats.golden.builders import (
    ANTHROPIC_TOOL,
    CHAT_TOOL,
    GEMINI_TOOL,
    RESPONSES_TOOL,
    USER,
    Bodies,
    Body,
    anthropic_request,
    assistant,
    gemini_request,
    openai_chat_request,
    openai_responses_request,
    turn,
    user,
)

PLACE = {"city": "Zürich", "country": "CH", "timezone": "Europe/Zurich"}
LOCATION = {"type": "approximate", **PLACE}


def claude_search(**settings: Any) -> Body:
    return {"type": "web_search_20250305", "name": "web_search", **settings}


FORCED_SEARCH: Bodies = {
    "openai_chat": None,
    "openai_responses": openai_responses_request(
        tools=[RESPONSES_TOOL, {"type": "web_search"}], tool_choice={"type": "web_search"}
    ),
    "anthropic": anthropic_request(
        tools=[ANTHROPIC_TOOL, claude_search()], tool_choice={"type": "tool", "name": "web_search"}
    ),
    "gemini": None,
}
COUNTERPARTS: dict[str, Bodies] = {
    "web search with a counterpart": {
        "openai_chat": openai_chat_request(
            web_search_options={
                "search_context_size": "low",
                "user_location": {"type": "approximate", "approximate": PLACE},
            }
        ),
        "openai_responses": openai_responses_request(
            tools=[
                {
                    "type": "web_search",
                    "filters": {"allowed_domains": ["a.example"]},
                    "search_context_size": "low",
                    "user_location": LOCATION,
                    "external_web_access": True,
                }
            ],
            max_tool_calls=3,
        ),
        "anthropic": anthropic_request(
            tools=[claude_search(allowed_domains=["a.example"], max_uses=2, user_location=LOCATION)]
        ),
        "gemini": gemini_request(tools=[{"googleSearch": {"excludeDomains": ["b.example"]}}]),
    },
    "web search with a counterpart beside a function": {
        "openai_chat": openai_chat_request(tools=[CHAT_TOOL], web_search_options={}),
        "openai_responses": openai_responses_request(
            tools=[RESPONSES_TOOL, {"type": "web_search", "external_web_access": False}]
        ),
        "anthropic": anthropic_request(tools=[ANTHROPIC_TOOL, claude_search(blocked_domains=["b.example"])]),
        "gemini": gemini_request(tools=[GEMINI_TOOL, {"googleSearch": {}}]),
    },
    "web fetch with a counterpart": {
        "openai_chat": openai_chat_request(tools=[{"type": "openrouter:web_fetch"}]),
        "openai_responses": None,
        "anthropic": anthropic_request(
            tools=[
                {
                    "type": "web_fetch_20250910",
                    "name": "web_fetch",
                    "max_uses": 2,
                    "max_content_tokens": 5000,
                    "citations": {"enabled": True},
                }
            ]
        ),
        "gemini": gemini_request(tools=[{"urlContext": {}}]),
    },
    "code execution with a counterpart": {
        "openai_chat": openai_chat_request(tools=[{"type": "code_execution"}]),
        "openai_responses": openai_responses_request(
            tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]
        ),
        "anthropic": anthropic_request(tools=[{"type": "code_execution_20250825", "name": "code_execution"}]),
        "gemini": gemini_request(tools=[{"codeExecution": {}}]),
    },
    "forced web search with a counterpart": FORCED_SEARCH,
}
"""Requests to providers that run these tools."""

SERVER_TOOLS: dict[str, Bodies] = {
    "forced web search": FORCED_SEARCH,
    "web search when no tool may be used": {
        "openai_chat": openai_chat_request(web_search_options={}, tool_choice="none"),
        "openai_responses": openai_responses_request(tools=[{"type": "web_search"}], tool_choice="none"),
        "anthropic": anthropic_request(tools=[claude_search()], tool_choice={"type": "none"}),
        "gemini": gemini_request(
            tools=[{"googleSearch": {}}], toolConfig={"functionCallingConfig": {"mode": "NONE"}}
        ),
    },
    "server tools without a counterpart": {
        "openai_chat": openai_chat_request(tools=[CHAT_TOOL, {"type": "browser_automation"}]),
        "openai_responses": openai_responses_request(
            tools=[
                RESPONSES_TOOL,
                {"type": "image_generation", "output_format": "png"},
                {"type": "tool_search"},
                {"type": "shell", "environment": {"type": "container_auto"}},
            ]
        ),
        "anthropic": anthropic_request(
            tools=[
                {**ANTHROPIC_TOOL, "defer_loading": True, "allowed_callers": ["code_execution_20250825"]},
                {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
                {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-5"},
            ]
        ),
        "gemini": gemini_request(tools=[GEMINI_TOOL, {"googleMaps": {}}]),
    },
    "server tools with data of the caller": {
        "openai_chat": openai_chat_request(tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]),
        "openai_responses": openai_responses_request(
            tools=[{"type": "file_search", "vector_store_ids": ["vs_1"]}]
        ),
        "anthropic": anthropic_request(
            mcp_servers=[{"type": "url", "name": "crm", "url": "https://crm.example"}],
            tools=[{"type": "mcp_toolset", "mcp_server_name": "crm"}],
        ),
        "gemini": gemini_request(tools=[{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]),
    },
}


# History ------------------------------------------------------------------------------------------


def claude_use(name: str, **given: Any) -> Body:
    return {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": given}


def claude_result(kind: str, content: Any) -> Body:
    return {"type": kind, "tool_use_id": "srvtoolu_1", "content": content}


FETCHED = {
    "type": "web_fetch_result",
    "url": "https://a.example",
    "content": {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "Body"}},
}
CLAUDE_PARTS: list[Body] = [
    {"type": "compaction", "content": "They met before."},
    claude_use("web_search", query="weather"),
    claude_result(
        "web_search_tool_result",
        [
            {
                "type": "web_search_result",
                "title": "Sun",
                "url": "https://a.example",
                "encrypted_content": "e",
            }
        ],
    ),
    claude_use("web_fetch", url="https://a.example"),
    claude_result("web_fetch_tool_result", FETCHED),
    claude_use("bash_code_execution", command="ls"),
    claude_result(
        "bash_code_execution_tool_result",
        {
            "type": "bash_code_execution_result",
            "stdout": "a.txt",
            "stderr": "",
            "return_code": 0,
            "content": [],
        },
    ),
    {"type": "container_upload", "file_id": "file_1"},
    {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "find", "server_name": "crm", "input": {"q": "x"}},
    {
        "type": "mcp_tool_result",
        "tool_use_id": "mcptoolu_1",
        "is_error": False,
        "content": [{"type": "text", "text": "One."}],
    },
    {"type": "block_of_tomorrow", "value": 1},
    {"type": "text", "text": "Done."},
]
OPENAI_ITEMS: list[Body] = [
    {
        "type": "web_search_call",
        "id": "ws_1",
        "status": "completed",
        "action": {
            "type": "search",
            "query": "weather",
            "sources": [{"type": "url", "url": "https://a.example"}],
        },
    },
    {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "container_id": "cntr_1",
        "code": "print(1)",
        "outputs": [{"type": "logs", "logs": "1"}],
    },
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": None},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "crm", "tools": []},
    {
        "type": "mcp_call",
        "id": "mcp_1",
        "server_label": "crm",
        "name": "find",
        "arguments": '{"q":"x"}',
        "output": "One.",
    },
    {
        "type": "mcp_approval_request",
        "id": "mcpr_1",
        "server_label": "crm",
        "name": "find",
        "arguments": "{}",
    },
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {
        "type": "agent_message",
        "author": "researcher",
        "recipient": "main",
        "content": [{"type": "input_text", "text": "Found it."}],
    },
    {"type": "item_of_tomorrow", "id": "x_1"},
]
GEMINI_PARTS: list[Body] = [
    {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
    {"partOfTomorrow": {"value": 1}},
    {"text": "Done."},
]
OPAQUE_PARTS: dict[str, Bodies] = {
    "opaque parts in a history": {
        "openai_chat": openai_chat_request(
            USER,
            {"role": "user", "content": [{"type": "part_of_tomorrow"}, {"type": "text", "text": "Go on"}]},
        ),
        "openai_responses": openai_responses_request(
            USER, *OPENAI_ITEMS, {"role": "user", "content": "Go on"}
        ),
        "anthropic": anthropic_request(USER, assistant(*CLAUDE_PARTS), {"role": "user", "content": "Go on"}),
        "gemini": gemini_request(
            turn("user", {"text": "Hi"}), turn("model", *GEMINI_PARTS), turn("user", {"text": "Go on"})
        ),
    },
    "opaque parts alone in the last message": {
        "openai_chat": openai_chat_request(user({"type": "part_of_tomorrow"})),
        "openai_responses": openai_responses_request(
            {"type": "message", "role": "user", "content": [{"type": "part_of_tomorrow"}]}
        ),
        "anthropic": anthropic_request(user({"type": "block_of_tomorrow"})),
        "gemini": gemini_request(turn("user", {"partOfTomorrow": {}})),
    },
    "items that OpenAI has encrypted": {
        "openai_chat": None,
        "openai_responses": openai_responses_request(
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"}, USER
        ),
        "anthropic": None,
        "gemini": None,
    },
}

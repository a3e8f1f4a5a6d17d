"""Features of the Responses API: settings that only it has or that it lacks, and its server tools."""

import re
from typing import Any

from proxy.formats.neutral import Opaque, Request
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings

STATEFUL_FIELDS = ("previous_response_id", "conversation", "prompt", "background")
RESPONSES_ONLY_SETTINGS = (*STATEFUL_FIELDS, "include", "truncation", "max_tool_calls")
"""Settings that no other format has. They are sent only from a Responses client to a Responses provider."""
OMITTABLE_VALUES: dict[str, Any] = {
    "store": False,
    "background": False,
    "truncation": "disabled",
    "service_tier": "auto",
    "metadata": {},
    "include": [],
}
"""For each setting, the value that has the same effect as no setting.

A setting with this value is not reported as dropped.
"""
SERVER_TOOLS: Settings = {
    "web_search": frozenset({"allowed_domains", "max_uses", "user_location", "search_context_size"}),
    "code_execution": frozenset({"max_uses"}),
}
"""OpenAI's server tools, each with its settings.

The API has no `max_uses` for a single tool. If every tool has one, their sum is sent as `max_tool_calls`.
"""
NO_SEARCH_MODEL = re.compile(r"gpt-4\.1-nano|gpt-3|gpt-4-|o1")
"""Models without web search (docs/guides/tools-web-search, "Limitations")."""
UNSUPPORTED_SETTINGS = frozenset({"top_k", "stop", "seed", "presence_penalty", "frequency_penalty"})
VALID_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def stateful_features(request: Request) -> list[str]:
    """Return the names of the fields and items that depend on state at the provider.

    No other provider can process them.
    """
    parts = [part for message in request.messages for part in message.parts if isinstance(part, Opaque)]
    items = dict.fromkeys(part.kind for part in parts if part.is_caller_data and part.origin == FORMAT)
    return [*(name for name in STATEFUL_FIELDS if name in request.unmapped_settings), *items]


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that a request can offer, each with its supported settings.

    OpenAI rejects web search together with minimal reasoning (docs/guides/tools-web-search, "Limitations").
    """
    effort = request.reasoning.effort if request.reasoning else None
    running = quirks.running(SERVER_TOOLS)
    if effort == "minimal" or NO_SEARCH_MODEL.match(request.model):
        return {kind: names for kind, names in running.items() if kind != "web_search"}
    return running

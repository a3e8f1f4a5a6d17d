"""Settings and items that only the Responses API has, and settings that it does not have."""

import re
from typing import Any

from proxy.formats.neutral import Opaque, Request
from proxy.formats.openai_responses.wire import FORMAT
from proxy.formats.quirks import Quirks
from proxy.formats.tools.offers import Settings

STATEFUL_FIELDS = ("previous_response_id", "conversation", "prompt", "background")
RESPONSES_ONLY_SETTINGS = (*STATEFUL_FIELDS, "include", "truncation", "max_tool_calls")
"""Settings that no other format has, so they keep their meaning between Responses clients and providers."""
OMITTABLE_VALUES: dict[str, Any] = {
    "store": False,
    "background": False,
    "truncation": "disabled",
    "service_tier": "auto",
    "metadata": {},
    "include": [],
}
"""Settings that ask for the default: nothing is lost if they are not passed on."""
SERVER_TOOLS: Settings = {
    "web_search": frozenset({"allowed_domains", "max_uses", "user_location", "search_context_size"}),
    "code_execution": frozenset({"max_uses"}),
}
"""OpenAI's own tools, each with the settings that it has. The request limits their calls all together."""
NO_SEARCH_MODEL = re.compile(r"gpt-4\.1-nano|gpt-3|gpt-4-|o1")
"""Models without web search (docs/guides/tools-web-search, "Limitations")."""
UNSUPPORTED_SETTINGS = frozenset({"top_k", "stop", "seed", "presence_penalty", "frequency_penalty"})
VALID_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def stateful_features(request: Request) -> list[str]:
    """Return the fields and items that only the provider that stores the conversation can serve."""
    parts = [part for message in request.messages for part in message.parts if isinstance(part, Opaque)]
    items = dict.fromkeys(part.kind for part in parts if part.is_caller_data and part.origin == FORMAT)
    return [*(name for name in STATEFUL_FIELDS if name in request.unmapped_settings), *items]


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that can be offered in a request, each with its settings.

    OpenAI rejects web search together with minimal reasoning (docs/guides/tools-web-search, "Limitations").
    """
    effort = request.reasoning.effort if request.reasoning else None
    running = quirks.running(SERVER_TOOLS)
    if effort == "minimal" or NO_SEARCH_MODEL.match(request.model):
        return {kind: names for kind, names in running.items() if kind != "web_search"}
    return running

"""Settings and items that only the Responses API has, and settings that it does not have."""

import re
from typing import Any

from proxy.formats.neutral import Opaque, Request

STATEFUL_FIELDS = ("previous_response_id", "conversation", "prompt", "background")
STATEFUL_ITEM_TYPES = ("item_reference", "compaction")
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
UNSUPPORTED_SETTINGS = frozenset({"top_k", "stop", "seed", "presence_penalty", "frequency_penalty"})
VALID_CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def stateful_features(request: Request) -> list[str]:
    """Return the fields and items that only the provider that stores the conversation can serve."""
    items = {part.kind for message in request.messages for part in message.parts if isinstance(part, Opaque)}
    return [name for name in STATEFUL_FIELDS if name in request.unmapped_settings] + [
        name for name in STATEFUL_ITEM_TYPES if name in items
    ]

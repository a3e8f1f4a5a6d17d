"""Capabilities of Claude's generations, looked up by the name of the model.

Models that do not have a Claude name get requests without newer features.

Sources: platform.claude.com/docs, "Adaptive thinking", "Effort", "Structured outputs", "Mid-conversation
system messages" and the migration guides.
"""

import re
from functools import lru_cache

from proxy.formats.neutral import Frozen, Request, Thinking
from proxy.formats.quirks import Quirks
from proxy.formats.reasoning import requires_thinking
from proxy.formats.tools.offers import Settings

TOOL_PROMPT_TOKENS = 600
"""The maximum number of tokens that the API adds to the prompt of a request with tools.

The documentation says up to 530 tokens (docs, "Tool use", "Pricing").
"""
SERVER_TOOL_TOKENS = 3_000
"""The maximum number of tokens that the API adds for each tool whose schema Anthropic defines.

The documentation says up to about 2,500 tokens (docs, "Tool use", "Pricing").
"""
SERVER_TOOL_TYPES = ("web_search", "web_fetch", "code_execution", "tool_search")
SERVER_TOOLS: Settings = {
    "web_search": frozenset({"allowed_domains", "blocked_domains", "max_uses", "user_location"}),
    "web_fetch": frozenset({"allowed_domains", "blocked_domains", "max_uses", "max_content_tokens"}),
    "code_execution": frozenset(),
}
"""Anthropic's server tools, each with its settings (docs, "Web search tool" and so on)."""
OTHER_SIGNATURE = re.compile(r"[0-9a-f-]{32,}")
"""The form of signatures from other servers of this API: an id, like DeepSeek's, or a digest.

Claude's signatures are base64, and Claude rejects others (github.com/NousResearch/hermes-agent/pull/21048,
github.com/deepseek-ai/awesome-deepseek-integration/issues/606).
"""
MODEL_NAME = re.compile(
    r"claude-(?P<family>opus|sonnet|haiku|fable|mythos)-(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2}))?(?!\d)"
)
LEGACY_MODEL_NAME = re.compile(r"claude-(?P<major>\d)(?:[-.](?P<minor>\d))?-(?P<family>opus|sonnet|haiku)")


class ModelCapabilities(Frozen, frozen=True):
    """Settings that a model accepts.

    - `adaptive_thinking`: the model accepts an effort, and rejects a budget of thinking tokens.
    - `thinking_always_on`: the model rejects `disabled` too.
    - `thinks_between_tools`: the model accepts `between_tools` instead of `disabled`.
    - `signs_thinking`: the model signs its thinking, and rejects thinking without its signature.
    - `supports_structured_output`: the model follows a JSON Schema.
    - `supports_system_messages`: the model accepts system messages between other messages.
    - `supports_server_tools`: the model can use Anthropic's server tools (docs, "Web search tool").
    - `default_max_tokens`: the output limit, in tokens, for requests without one. Every model
      of the generation accepts it (docs, "Models overview").
    """

    adaptive_thinking: bool = False
    thinking_always_on: bool = False
    thinks_between_tools: bool = False
    signs_thinking: bool = True
    supports_xhigh_effort: bool = False
    supports_structured_output: bool = True
    supports_system_messages: bool = False
    supports_server_tools: bool = True
    default_max_tokens: int = 4096


@lru_cache(maxsize=1024)
def model_capabilities(model: str) -> ModelCapabilities:
    """Return the capabilities of a model.

    The date in a name such as claude-sonnet-4-20250514 is not a minor version.
    """
    match = MODEL_NAME.search(model) or LEGACY_MODEL_NAME.search(model)
    if not match:
        return ModelCapabilities(signs_thinking="claude" in model)
    family, generation = match["family"], (int(match["major"]), int(match["minor"] or 0))
    newest = generation >= (4, 7)
    return ModelCapabilities(
        adaptive_thinking=newest,
        thinking_always_on=family in ("fable", "mythos") or (family == "opus" and generation >= (5, 5)),
        thinks_between_tools=family == "sonnet" and generation >= (5, 5),
        supports_xhigh_effort=newest and family in ("opus", "fable", "mythos"),
        supports_structured_output=generation >= (4, 5),
        supports_system_messages=generation >= (4, 8),
        supports_server_tools=generation >= (3, 5),
        default_max_tokens=32_000 if generation >= (3, 7) else 8192 if generation >= (3, 5) else 4096,
    )


def server_tools_for(request: Request, quirks: Quirks) -> Settings:
    """Return the server tools that a request can offer, each with its supported settings."""
    return quirks.running(SERVER_TOOLS) if model_capabilities(request.model).supports_server_tools else {}


def accepts_thinking(part: Thinking, model: str) -> bool:
    """Return whether a model accepts this thinking in its history.

    A model that signs its thinking accepts only thinking with a signature or redacted thinking. Models that
    require the text of earlier thinking do not verify signatures, and cannot read redacted thinking.
    """
    if model_capabilities(model).signs_thinking:
        signature = part.redacted or part.signature
        return bool(signature) and not OTHER_SIGNATURE.fullmatch(signature or "")
    return bool(part.text if requires_thinking(model) else part.text or part.signature or part.redacted)

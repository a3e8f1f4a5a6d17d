"""What the gateway can be asked to do: each operation with its scope, its format, and whether it costs money."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.anthropic.relay import CountTokensCall
from proxy.formats.codec import Incoming
from proxy.formats.completions import CompletionsCall
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.openai_embeddings import EmbeddingsCall


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` names the canonical path, which covers every alias. `parse` reads a body, or raises BadRequest; it also takes what
    the address says. `convertible`: providers of other formats can answer it through the neutral hub.
    """

    name: str
    scope: str
    method: str
    format: str
    parse: Callable[..., Incoming] | None = None
    billable: bool = False
    convertible: bool = False

    @property
    def dialect(self) -> str:
        """Whose words the caller speaks, as logs and metrics name it: openai, anthropic or gemini."""
        return self.format.partition("_")[0]


def generation(name: str, scope: str, format: str, parse: Callable[..., Incoming]) -> Operation:
    return Operation(name, scope, "POST", format, parse, billable=True, convertible=True)


CHAT = generation("chat", "post:/openai/v1/chat/completions", openai_chat.NAME, openai_chat.ChatCall)
RESPONSES = generation("responses", "post:/openai/v1/responses", openai_responses.NAME, openai_responses.ResponsesCall)
MESSAGES = generation("messages", "post:/anthropic/v1/messages", anthropic.NAME, anthropic.AnthropicCall)
GENERATE = generation("generate", "post:/gemini/v1beta/models:generateContent", gemini.NAME, gemini.GeminiCall)
EMBEDDINGS = Operation("embeddings", "post:/openai/v1/embeddings", "POST", openai_chat.NAME, EmbeddingsCall, billable=True)
COMPLETIONS = Operation("completions", "post:/openai/v1/completions", "POST", openai_chat.NAME, CompletionsCall, billable=True)
EMBED = Operation("embed", "post:/gemini/v1beta/models:embedContent", "POST", gemini.NAME, gemini_embeddings.EmbedCall, billable=True)
EMBED_BATCH = Operation(
    "embed_batch", "post:/gemini/v1beta/models:embedContent", "POST", gemini.NAME, gemini_embeddings.BatchEmbedCall, billable=True
)
COUNT_MESSAGES = Operation("count_tokens", "post:/anthropic/v1/messages", "POST", anthropic.NAME, CountTokensCall)
COUNT_CONTENTS = Operation(
    "count_tokens", "post:/gemini/v1beta/models:generateContent", "POST", gemini.NAME, gemini_embeddings.CountTokensCall
)
MODELS = Operation("models", "get:/openai/v1/models", "GET", openai_chat.NAME)
USAGE = Operation("usage", "usage:read", "GET", "gateway")
UNKNOWN = Operation("unknown", "", "", openai_chat.NAME)
UNKNOWN_MESSAGES = Operation("unknown", "", "", anthropic.NAME)
UNKNOWN_CONTENTS = Operation("unknown", "", "", gemini.NAME)
HEALTH = Operation("health", "", "GET", "")
READY = Operation("ready", "", "GET", "")
METRICS = Operation("metrics", "", "GET", "")

"""What the gateway can be asked to do: each operation with its scope, its format, and whether it costs money."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.anthropic.count_tokens import CountTokensRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.gemini.count_tokens import CountTokensRequest as GeminiCountTokensRequest
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` names the canonical path, which covers every alias. `parse` reads a body, or raises BadRequest; it also takes what
    the address says. `convertible`: providers of other formats can answer it through the neutral hub.
    """

    name: str
    scope: str
    method: str
    format: str
    parse: Callable[..., ClientRequest] | None = None
    billable: bool = False
    convertible: bool = False

    @property
    def api_family(self) -> str:
        """Whose words the caller speaks, as logs and metrics name it: openai, anthropic or gemini."""
        return self.format.partition("_")[0]


def generation_operation(
    name: str, scope: str, format: str, parse: Callable[..., ClientRequest]
) -> Operation:
    return Operation(name, scope, "POST", format, parse, billable=True, convertible=True)


CHAT_COMPLETIONS = generation_operation(
    "chat", "post:/openai/v1/chat/completions", openai_chat.FORMAT, openai_chat.ChatRequest
)
RESPONSES = generation_operation(
    "responses", "post:/openai/v1/responses", openai_responses.FORMAT, openai_responses.ResponsesRequest
)
MESSAGES = generation_operation(
    "messages", "post:/anthropic/v1/messages", anthropic.FORMAT, anthropic.MessagesRequest
)
GENERATE_CONTENT = generation_operation(
    "generate", "post:/gemini/v1beta/models:generateContent", gemini.FORMAT, gemini.GenerateContentRequest
)
EMBEDDINGS = Operation(
    "embeddings",
    "post:/openai/v1/embeddings",
    "POST",
    openai_chat.FORMAT,
    CreateEmbeddingRequest,
    billable=True,
)
COMPLETIONS = Operation(
    "completions",
    "post:/openai/v1/completions",
    "POST",
    openai_chat.FORMAT,
    CreateCompletionRequest,
    billable=True,
)
EMBED_CONTENT = Operation(
    "embed",
    "post:/gemini/v1beta/models:embedContent",
    "POST",
    gemini.FORMAT,
    gemini_embeddings.EmbedContentRequest,
    billable=True,
)
BATCH_EMBED_CONTENTS = Operation(
    "embed_batch",
    "post:/gemini/v1beta/models:embedContent",
    "POST",
    gemini.FORMAT,
    gemini_embeddings.BatchEmbedContentsRequest,
    billable=True,
)
COUNT_ANTHROPIC_TOKENS = Operation(
    "count_tokens", "post:/anthropic/v1/messages", "POST", anthropic.FORMAT, CountTokensRequest
)
COUNT_GEMINI_TOKENS = Operation(
    "count_tokens",
    "post:/gemini/v1beta/models:generateContent",
    "POST",
    gemini.FORMAT,
    GeminiCountTokensRequest,
)
MODELS = Operation("models", "get:/openai/v1/models", "GET", openai_chat.FORMAT)
USAGE = Operation("usage", "usage:read", "GET", "gateway")
NOT_FOUND = Operation("unknown", "", "", openai_chat.FORMAT)
NOT_FOUND_ANTHROPIC = Operation("unknown", "", "", anthropic.FORMAT)
NOT_FOUND_GEMINI = Operation("unknown", "", "", gemini.FORMAT)
HEALTH = Operation("health", "", "GET", "")
READY = Operation("ready", "", "GET", "")
METRICS = Operation("metrics", "", "GET", "")

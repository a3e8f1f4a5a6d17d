"""What the gateway can be asked to do: each operation with its scope, its format, and whether it costs money."""

from collections.abc import Callable
from dataclasses import dataclass

from proxy.formats.openai_chat import ChatCall
from proxy.formats.openai_embeddings import EmbeddingsCall

Incoming = ChatCall | EmbeddingsCall


@dataclass(frozen=True, slots=True)
class Operation:
    """`scope` names the canonical path, which covers every alias. `parse` reads a body, or raises BadRequest."""

    name: str
    scope: str
    method: str
    format: str
    parse: Callable[[bytes], Incoming] | None = None

    @property
    def billable(self) -> bool:
        return self.parse is not None


CHAT = Operation("chat", "post:/openai/v1/chat/completions", "POST", "openai", ChatCall)
EMBEDDINGS = Operation("embeddings", "post:/openai/v1/embeddings", "POST", "openai", EmbeddingsCall)
MODELS = Operation("models", "get:/openai/v1/models", "GET", "openai")
UNKNOWN = Operation("unknown", "", "", "openai")
HEALTH = Operation("health", "", "GET", "")
READY = Operation("ready", "", "GET", "")
METRICS = Operation("metrics", "", "GET", "")

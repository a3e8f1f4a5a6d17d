"""Operations of the gateway: the scope that each requires, its format, and the parser of its body."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.anthropic.count_tokens import CountTokensRequest
from proxy.formats.codec import ClientRequest
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.gemini.count_tokens import CountTokensRequest as GeminiCountTokensRequest
from proxy.formats.json_body import set_model
from proxy.formats.openai_chat import envelope
from proxy.formats.openai_chat.completions import CreateCompletionRequest
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_responses.compaction import CompactRequest
from proxy.formats.openai_responses.count_tokens import CountTokensRequest as ResponsesCountTokensRequest

GATEWAY_FORMAT = "gateway"
"""The gateway's own format, which its usage reports use."""


class TokenCountRequest(ClientRequest, Protocol):
    """A request for a token count."""

    def estimate(self) -> bytes:
        """Return the response with the gateway's estimate."""


R_co = TypeVar("R_co", bound=ClientRequest, covariant=True)


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation that a client can request.

    `scope` names the canonical path; it also covers every alias of the path. A `billable` operation costs
    money, so it is reserved and settled. A `convertible` operation can be converted for providers of other
    formats. `other_methods` are the methods of other operations at the same URL. Responses of a `cacheable`
    operation may be cached. With `cached_by_default`, they are cached even if neither the request nor its
    project asks for it. With `has_envelope`, the client gets responses in the `{success, data}` envelope. Its
    settings are then fitted to the model, even if the client has named it.
    """

    name: str
    scope: str
    method: str
    format: str
    billable: bool = False
    convertible: bool = False
    cacheable: bool = False
    cached_by_default: bool = False
    has_envelope: bool = False
    other_methods: tuple[str, ...] = ()

    @property
    def methods(self) -> tuple[str, ...]:
        """Return the methods of the URL; the empty result allows all methods.

        HEAD is GET without the body.
        """
        own = ("GET", "HEAD") if self.method == "GET" else (self.method,) if self.method else ()
        return (*own, *self.other_methods)

    @property
    def error_format(self) -> str:
        """Return the format of errors that no writer converts."""
        return GATEWAY_FORMAT if self.has_envelope else self.format

    @property
    def api_family(self) -> str:
        """Return the client's API family as logs and metrics name it: openai, anthropic or gemini."""
        return self.format.partition("_")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyOperation(Operation, Generic[R_co]):
    """An operation with a body.

    `parse` takes the body and the parameters of the URL, and raises InvalidRequest.
    """

    parse: Callable[..., R_co]


def generation_operation(
    name: str, scope: str, format: str, parse: Callable[..., ClientRequest]
) -> BodyOperation[ClientRequest]:
    return BodyOperation(
        name, scope, "POST", format, billable=True, convertible=True, cacheable=True, parse=parse
    )


def embedding_operation(
    name: str, scope: str, format: str, parse: Callable[..., ClientRequest]
) -> BodyOperation[ClientRequest]:
    return BodyOperation(name, scope, "POST", format, billable=True, cacheable=True, parse=parse)


def count_operation(
    scope: str, format: str, parse: Callable[..., TokenCountRequest]
) -> BodyOperation[TokenCountRequest]:
    return BodyOperation("count_tokens", scope, "POST", format, parse=parse)


def for_deployment(operation: BodyOperation[ClientRequest]) -> BodyOperation[ClientRequest]:
    """Return the operation for a URL of Azure OpenAI, in which the deployment is the model's name."""

    def parse(body: bytes, deployment: str) -> ClientRequest:
        return operation.parse(set_model(body, deployment))

    return replace(operation, parse=parse)


def in_envelope(
    operation: BodyOperation[ClientRequest], parse: Callable[..., ClientRequest]
) -> BodyOperation[ClientRequest]:
    """Return the operation for clients of the `{success, data}` envelope."""
    return replace(operation, parse=parse, cached_by_default=True, has_envelope=True)


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
EMBEDDINGS = embedding_operation(
    "embeddings", "post:/openai/v1/embeddings", openai_chat.FORMAT, CreateEmbeddingRequest
)
ENVELOPED_CHAT = in_envelope(CHAT_COMPLETIONS, envelope.EnvelopedChatRequest)
ENVELOPED_EMBEDDINGS = in_envelope(EMBEDDINGS, envelope.EnvelopedEmbeddingRequest)
COMPLETIONS: BodyOperation[ClientRequest] = BodyOperation(
    "completions",
    "post:/openai/v1/completions",
    "POST",
    openai_chat.FORMAT,
    billable=True,
    cacheable=True,
    parse=CreateCompletionRequest,
)
EMBED_CONTENT = embedding_operation(
    "embed",
    "post:/gemini/v1beta/models:embedContent",
    gemini.FORMAT,
    gemini_embeddings.EmbedContentRequest,
)
BATCH_EMBED_CONTENTS = embedding_operation(
    "embed_batch",
    "post:/gemini/v1beta/models:embedContent",
    gemini.FORMAT,
    gemini_embeddings.BatchEmbedContentsRequest,
)
COUNT_ANTHROPIC_TOKENS = count_operation("post:/anthropic/v1/messages", anthropic.FORMAT, CountTokensRequest)
COUNT_GEMINI_TOKENS = count_operation(
    "post:/gemini/v1beta/models:generateContent", gemini.FORMAT, GeminiCountTokensRequest
)
COUNT_RESPONSES_TOKENS = count_operation(
    "post:/openai/v1/responses", openai_responses.FORMAT, ResponsesCountTokensRequest
)
COMPACT: BodyOperation[ClientRequest] = BodyOperation(
    "compact",
    "post:/openai/v1/responses",
    "POST",
    openai_responses.FORMAT,
    billable=True,
    parse=CompactRequest,
)
RETRIEVE_RESPONSE = Operation(
    "retrieve_response",
    "get:/openai/v1/responses",
    "GET",
    openai_responses.FORMAT,
    other_methods=("DELETE",),
)
DELETE_RESPONSE = Operation(
    "delete_response", "delete:/openai/v1/responses", "DELETE", openai_responses.FORMAT
)
CANCEL_RESPONSE = Operation("cancel_response", "post:/openai/v1/responses", "POST", openai_responses.FORMAT)
LIST_INPUT_ITEMS = Operation("list_input_items", "get:/openai/v1/responses", "GET", openai_responses.FORMAT)
MODELS = Operation("models", "get:/openai/v1/models", "GET", openai_chat.FORMAT)
USAGE = Operation("usage", "usage:read", "GET", GATEWAY_FORMAT)
LOGS = Operation("logs", "", "GET", GATEWAY_FORMAT, other_methods=("DELETE",))
LOG_DETAIL = Operation("log_detail", "", "GET", GATEWAY_FORMAT)
DELETE_LOGS = Operation("delete_logs", "project:manage", "DELETE", GATEWAY_FORMAT)
PROMPT_LOG = Operation("prompt_log", "", "GET", GATEWAY_FORMAT)
PURGE_CACHE = Operation("purge_cache", "project:manage", "DELETE", GATEWAY_FORMAT)
NOT_FOUND = Operation("unknown", "", "", openai_chat.FORMAT)
NOT_FOUND_ANTHROPIC = Operation("unknown", "", "", anthropic.FORMAT)
NOT_FOUND_GEMINI = Operation("unknown", "", "", gemini.FORMAT)
NOT_FOUND_GATEWAY = Operation("unknown", "", "", GATEWAY_FORMAT)
HEALTH = Operation("health", "", "GET", "")
READY = Operation("ready", "", "GET", "")
METRICS = Operation("metrics", "", "GET", "")

"""Requests and responses of `/api/v1/completions`: those of OpenAI with defaults and in an envelope.

A request has OpenAI's fields, except that the output limit is `maxTokens`. All other fields pass to OpenAI's
parsers, so the pipeline processes a request of this form like one in OpenAI's format.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from proxy.formats.json_body import (
    TokenLimit,
    as_dict,
    convert_json,
    decode_available_fields,
    encode,
    parse_object,
    replace_fields,
)
from proxy.formats.openai_chat.embeddings import CreateEmbeddingRequest
from proxy.formats.openai_chat.passthrough import ChatRequest
from proxy.formats.quirks import Quirks

DEFAULT_CHAT_MODEL = "gpt-4o-mini"
DEFAULT_EMBEDDING_MODEL = "text-embedding-3-small"
DEFAULT_TEMPERATURE = 0.7


class EnvelopedFields(msgspec.Struct, rename="camel"):
    """The fields whose names or values differ from OpenAI's."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: TokenLimit | None = None
    metadata: dict[str, Any] | None = None


class EnvelopedChatRequest(ChatRequest):
    """A request for a chat completion."""

    def __init__(self, body: bytes) -> None:
        """Parse the request. Raises InvalidRequest."""
        fields = parse_object(body)
        given = convert_json(fields, EnvelopedFields)
        defaults = missing(fields, model=DEFAULT_CHAT_MODEL, temperature=DEFAULT_TEMPERATURE)
        limit = {} if given.max_tokens is None else {"max_tokens": given.max_tokens}
        changes = {**defaults, **limit, **text_metadata(given.metadata)}
        super().__init__(replace_fields(body, changes, ("maxTokens",)))
        self.facts = replace(self.facts, default_settings=tuple(defaults))

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the body in OpenAI's format. `metadata` is for the gateway and never sent."""
        body = super().upstream_body(model, max_tokens, quirks)
        return replace_fields(body, {}, ("metadata",)) if "metadata" in self.fields else body


class EnvelopedEmbeddingRequest(CreateEmbeddingRequest):
    """A request for embeddings."""

    def __init__(self, body: bytes) -> None:
        """Parse the request. Raises InvalidRequest."""
        fields = parse_object(body)
        given = convert_json(fields, EnvelopedFields)
        defaults = missing(fields, model=DEFAULT_EMBEDDING_MODEL)
        super().__init__(replace_fields(body, {**defaults, **text_metadata(given.metadata)}))
        self.facts = replace(self.facts, default_settings=tuple(defaults))


def missing(fields: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    """Return the defaults of the fields that the client has left out, or that are null."""
    return {name: value for name, value in defaults.items() if fields.get(name) is None}


def text_metadata(metadata: dict[str, Any] | None) -> dict[str, dict[str, str]]:
    """Return the field `metadata` with texts as values, because the values of tags are texts.

    Other values become JSON.
    """
    if metadata is None:
        return {}
    texts = {
        name: value if isinstance(value, str) else encode(value).decode() for name, value in metadata.items()
    }
    return {"metadata": texts}


def chat_data(body: bytes) -> dict[str, Any]:
    """Return `data` for a chat completion. Raises one of DECODE_ERRORS."""
    completion = decode_available_fields(body)
    return {name: completion.get(name) for name in ("id", "model", "choices")} | usage_data(completion)


def embedding_data(body: bytes) -> dict[str, Any]:
    """Return `data` for embeddings: OpenAI's list of vectors. Raises one of DECODE_ERRORS."""
    response = decode_available_fields(body)
    return {name: response.get(name) for name in ("object", "model", "data")} | usage_data(response)


def usage_data(response: Mapping[str, Any]) -> dict[str, Any]:
    usage = as_dict(response.get("usage"))
    prompt, completion = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    total = usage.get("total_tokens") or prompt + completion
    return {"usage": {"promptTokens": prompt, "completionTokens": completion, "totalTokens": total}}


def accounting_data(cost_usd: str, *, cached: bool, latency_s: float) -> dict[str, Any]:
    """Return the fields of `data` that describe how the request was served."""
    return {"cost": Decimal(cost_usd), "cached": cached, "latencyMs": round(latency_s * 1000)}

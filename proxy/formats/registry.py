"""The registry of formats. mypy checks here that the package of each format implements `Codec`."""

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.codec import Codec, EmbeddingCodec
from proxy.formats.gemini import embeddings as gemini_embeddings
from proxy.formats.openai_chat import embeddings as openai_embeddings

CODECS: dict[str, Codec] = {
    openai_chat.FORMAT: openai_chat,
    openai_responses.FORMAT: openai_responses,
    anthropic.FORMAT: anthropic,
    gemini.FORMAT: gemini,
}
EMBEDDING_CODECS: dict[str, EmbeddingCodec] = {
    openai_chat.FORMAT: openai_embeddings,
    openai_responses.FORMAT: openai_embeddings,
    gemini.FORMAT: gemini_embeddings,
}
"""Codecs for embeddings, by the provider's format for text. Both formats of OpenAI share one codec."""

"""The formats of the gateway. mypy checks here that each package implements `Codec`."""

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
"""By the format that a provider speaks for text; OpenAI has one format for embeddings."""

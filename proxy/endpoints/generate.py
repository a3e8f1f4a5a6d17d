"""Views of the billable operations: generation and embeddings."""

from typing import Any
from urllib.parse import parse_qs

from proxy import operations
from proxy.endpoints.views import billable
from proxy.http.request import GatewayRequest
from proxy.operations import for_deployment


def gemini_stream_params(request: GatewayRequest) -> dict[str, Any]:
    """Return Gemini's kind of stream: server-sent events with `alt=sse`, else one JSON array."""
    query = parse_qs(request.scope["query_string"].decode("latin-1"))
    return {"stream": True, "as_array": query.get("alt") != ["sse"]}


chat_completions = billable(operations.CHAT_COMPLETIONS)
responses = billable(operations.RESPONSES)
compact = billable(operations.COMPACT)
completions = billable(operations.COMPLETIONS)
embeddings = billable(operations.EMBEDDINGS)
deployment_chat_completions = billable(for_deployment(operations.CHAT_COMPLETIONS))
deployment_completions = billable(for_deployment(operations.COMPLETIONS))
deployment_embeddings = billable(for_deployment(operations.EMBEDDINGS))
messages = billable(operations.MESSAGES)
generate_content = billable(operations.GENERATE_CONTENT)
stream_generate_content = billable(operations.GENERATE_CONTENT, gemini_stream_params)
embed_content = billable(operations.EMBED_CONTENT)
batch_embed_contents = billable(operations.BATCH_EMBED_CONTENTS)

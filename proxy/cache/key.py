"""Cache keys. Two requests of a project share a key if the provider would receive the same request.

A key is a keyed digest, so that somebody with a copy of the store cannot check a guessed prompt. It covers
the project, the operation, the account, the provider's model and every field of the body, except for the form
of the
response: a stream and a non-streaming response have the same key.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from django.utils.crypto import salted_hmac

from proxy.formats import anthropic, gemini, openai_chat
from proxy.formats.codec import ClientRequest
from proxy.operations import Operation
from proxy.routing.accounts import Account

VERSION = 1
FORM_FIELDS = ("stream", "stream_options")
FORMATS_WITHOUT_METADATA = (openai_chat.FORMAT, gemini.FORMAT)
"""Formats whose providers do not get the tags of a request."""
encode_canonical = msgspec.json.Encoder(order="deterministic").encode


def cache_key(
    project_id: int,
    operation: Operation,
    account: Account,
    model: str,
    request: ClientRequest,
    forwarded: Mapping[str, str],
) -> str:
    """Return the key of a request.

    `model` is the provider's name for the model. `forwarded` are the headers that the provider gets.
    """
    identity = [account.slug, account.provider.slug, account.base_url, account.api, account.secret]
    form = None if operation.convertible else form_of(request).decode()
    fields = sent_fields(operation.format, request.fields)
    parts = [VERSION, project_id, operation.name, operation.format, identity, model, form, forwarded, fields]
    return salted_hmac("proxy.cache", encode_canonical(parts), algorithm="sha256").hexdigest()


def sent_fields(format: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that decide the content of the response."""
    kept = {name: value for name, value in fields.items() if name not in FORM_FIELDS and name != "model"}
    if "metadata" in kept and format in FORMATS_WITHOUT_METADATA:
        del kept["metadata"]
    elif format == anthropic.FORMAT and isinstance(metadata := kept.get("metadata"), dict):
        kept["metadata"] = metadata.get("user_id")
    return kept


def form_of(request: ClientRequest) -> bytes:
    """Return the form of the response that a client wants: non-streaming, or the kind of stream."""
    if not request.facts.stream:
        return b""
    return encode_canonical([request.stream_content_type, request.fields.get("stream_options")])

"""Match the rule of a route against a request."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from proxy.formats.codec import ClientRequest
from proxy.formats.metering.token_counts import BYTES_PER_TOKEN
from proxy.http.request import GatewayRequest
from proxy.models.route_definitions import ANY_REQUEST, Capability, RuleDefinition

IMAGE_TYPES = ("image", "image_url", "input_image")
"""Types of content parts with an image, in the formats of OpenAI and Anthropic."""
GEMINI_MEDIA_FIELDS = ("inlineData", "inline_data", "fileData", "file_data")
TOOL_FIELDS = ("tools", "functions")
MAX_PART_DEPTH = 8
"""How deep lists and objects are searched for images, counted from the body of the request."""


@dataclass(frozen=True, slots=True)
class RuleInput:
    """The parts of a request that rules can use: the public id of the API key, headers, body and tags."""

    public_id: str
    request: GatewayRequest
    client_request: ClientRequest
    tags: Mapping[str, str]


def matches(rule: RuleDefinition, given: RuleInput) -> bool:
    """Return whether a request meets all conditions of a rule."""
    return rule is ANY_REQUEST or (
        (not rule.keys or given.public_id in rule.keys)
        and has_headers(rule, given.request)
        and all(given.tags.get(name) == value for name, value in rule.metadata.items())
        and has_size(rule, given.client_request)
        and all(needs(capability, given.client_request) for capability in rule.capabilities)
    )


def has_headers(rule: RuleDefinition, request: GatewayRequest) -> bool:
    return all(request.header(name.lower().encode()) == value for name, value in rule.headers.items())


def has_size(rule: RuleDefinition, client_request: ClientRequest) -> bool:
    if not rule.min_input_tokens and rule.max_input_tokens is None:
        return True
    tokens = -(-client_request.facts.max_input_tokens // BYTES_PER_TOKEN)
    return rule.min_input_tokens <= tokens and (
        rule.max_input_tokens is None or tokens <= rule.max_input_tokens
    )


def needs(capability: Capability, client_request: ClientRequest) -> bool:
    """Return whether a request needs a capability of the model."""
    fields = client_request.fields
    if capability == "tools":
        return any(fields.get(name) for name in TOOL_FIELDS)
    return any(is_image(part) for part in walk(fields.values()))


def walk(values: Iterable[Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the objects in lists and objects, up to MAX_PART_DEPTH levels deep."""
    for value in values:
        if isinstance(value, dict):
            yield value
        if depth < MAX_PART_DEPTH and isinstance(value, dict | list):
            yield from walk(value.values() if isinstance(value, dict) else value, depth + 1)


def is_image(part: dict[str, Any]) -> bool:
    """Return whether a content part of any format contains an image."""
    if part.get("type") in IMAGE_TYPES:
        return True
    media = next((part[name] for name in GEMINI_MEDIA_FIELDS if name in part), None)
    media_type = (media.get("mimeType") or media.get("mime_type")) if isinstance(media, dict) else None
    return isinstance(media_type, str) and media_type.startswith("image/")

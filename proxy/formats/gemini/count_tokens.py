"""Count the tokens of a prompt (ai.google.dev/api/tokens)."""

from typing import Any

import msgspec
from msgspec import field

from proxy.formats.field_case import check_letters
from proxy.formats.gemini.embeddings import Contents, NonGeneratingRequest
from proxy.formats.gemini.passthrough import prompt_tokens
from proxy.formats.json_body import convert_json, decode_fields, encode, parse_object, replace_fields
from proxy.formats.metering import token_bounds
from proxy.formats.neutral import Usage
from proxy.formats.quirks import Quirks

BYTES_PER_TOKEN = 4
"""The assumed number of bytes in a token.

It is good enough for an estimate, but not for an upper bound.
"""


class GenerateContentFields(msgspec.Struct):
    contents: Contents | None = None
    tools: Any = None
    system: Any = field(name="systemInstruction", default=None)
    snake_system: Any = field(name="system_instruction", default=None)


class CountTokensFields(msgspec.Struct):
    """Fields of a countTokens request: either contents alone, or a complete request."""

    contents: Contents | None = None
    request: GenerateContentFields | None = field(name="generateContentRequest", default=None)
    snake_request: GenerateContentFields | None = field(name="generate_content_request", default=None)


REQUEST_FIELDS = ("generateContentRequest", "generate_content_request")
COUNT_FIELDS = frozenset(field.encode_name for field in msgspec.structs.fields(CountTokensFields))


class CountTokensRequest(NonGeneratingRequest):
    """A request that counts the tokens of a prompt. It costs nothing."""

    action = "countTokens"

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        fields = parse_object(body)
        self.request = request = convert_json(fields, CountTokensFields)
        check_letters(fields, COUNT_FIELDS)
        tokens = counted_prompt_tokens(request, token_bounds.max_image_tokens(model))
        super().__init__(body, fields, model, tokens)

    def upstream_body(self, model: str, _max_tokens: int | None, _quirks: Quirks) -> bytes:
        names = [name for name in REQUEST_FIELDS if self.fields.get(name) is not None]
        raw = decode_fields(self.body) if names else {}
        renamed = {
            name: msgspec.Raw(replace_fields(bytes(raw[name]), {"model": f"models/{model}"}))
            for name in names
        }
        return replace_fields(self.body, renamed) if renamed else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """Return a response for providers that cannot count tokens."""
        return encode({"totalTokens": -(-self.facts.max_input_tokens // BYTES_PER_TOKEN)})


def counted_prompt_tokens(request: CountTokensFields, image_tokens: int) -> int:
    generate_request = (
        request.request or request.snake_request or GenerateContentFields(contents=request.contents)
    )
    prompt = (
        generate_request.contents,
        generate_request.system or generate_request.snake_system,
        generate_request.tools,
    )
    return sum(prompt_tokens(value, image_tokens) for value in prompt)

"""Requests that count input tokens (platform.openai.com/docs/api-reference/responses/input-tokens)."""

from proxy.formats.json_body import encode
from proxy.formats.metering.token_counts import BYTES_PER_TOKEN
from proxy.formats.neutral import RequestFacts, UnsupportedFeature, Usage
from proxy.formats.openai_responses.passthrough import STORED_FIELDS, ResponsesRequest
from proxy.formats.openai_responses.request import PATH
from proxy.formats.quirks import Quirks


class CountTokensRequest(ResponsesRequest):
    """A request that counts the tokens of an input. It generates nothing, and costs nothing."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        super().__init__(body)
        self.facts = RequestFacts(
            model=self.facts.model, max_input_tokens=self.facts.max_input_tokens, max_output_tokens=0
        )

    def path(self, model: str) -> str:
        return f"{PATH}/input_tokens"

    def upstream_body(self, model: str, _max_tokens: int | None, quirks: Quirks) -> bytes:
        return super().upstream_body(model, None, quirks)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """Return a response for providers that cannot count tokens.

        Raises UnsupportedFeature if the request refers to stored input, because only the provider that stores
        it can count it.
        """
        if stored := [name for name in STORED_FIELDS if getattr(self.request, name)]:
            text = f"{stored[0]} works only with models that are served by the Responses API."
            raise UnsupportedFeature(text, stored[0])
        tokens = -(-self.facts.max_input_tokens // BYTES_PER_TOKEN)
        return encode({"object": "response.input_tokens", "input_tokens": tokens})

"""Requests that count the tokens of a prompt (platform.claude.com/docs/en/api/messages-count-tokens)."""

from proxy.formats.anthropic.passthrough import MessagesRequest
from proxy.formats.anthropic.request import PATH
from proxy.formats.json_body import encode
from proxy.formats.neutral import RequestFacts, Usage
from proxy.formats.quirks import Quirks

BYTES_PER_TOKEN = 4
"""The assumed number of bytes in a token.

It is good enough for an estimate, but not for an upper bound.
"""


class CountTokensRequest(MessagesRequest):
    """A request to count the tokens of a prompt. It generates nothing, and costs nothing."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Raise InvalidRequest for a body that is not valid."""
        super().__init__(body)
        self.facts = RequestFacts(
            model=self.facts.model, max_input_tokens=self.facts.max_input_tokens, max_output_tokens=0
        )

    def path(self, model: str) -> str:
        return f"{PATH}/count_tokens"

    def upstream_body(self, model: str, _max_tokens: int | None, quirks: Quirks) -> bytes:
        return super().upstream_body(model, None, quirks)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return None, 0

    def estimate(self) -> bytes:
        """Return an estimate in the form of a response, for providers that cannot count tokens."""
        return encode({"input_tokens": -(-self.facts.max_input_tokens // BYTES_PER_TOKEN)})

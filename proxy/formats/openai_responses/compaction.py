"""Compact a conversation (platform.openai.com/docs/api-reference/responses/compact).

The model runs once and is billed as for a response. The result repeats the user's messages and ends with an
encrypted summary. It is sent back as a whole, so the provider stores nothing.
"""

import msgspec
from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS, decode_lenient
from proxy.formats.neutral import Usage
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.openai_responses.passthrough import ResponsesRequest, measure
from proxy.formats.openai_responses.request import PATH
from proxy.formats.openai_responses.wire import decode_response_facts
from proxy.formats.quirks import Quirks

MAX_OUTPUT_TOKENS = 128_000
"""Output of a compaction at most: of all models, none can write more (developers.openai.com/api/docs/models).

A request to compact has no field that limits it.
"""
NO_OUTPUT = msgspec.Raw(b"[]")


class CompactRequest(ResponsesRequest):
    """A client's request, and how it is passed on."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Read the request. Raises InvalidRequest."""
        super().__init__(body)
        # Tools are a part of the context, and are not called.
        self.facts = replace(
            self.facts,
            stream=False,
            max_output_tokens=None,
            fixed_max_output=MAX_OUTPUT_TOKENS,
            max_billable_extras={},
        )

    def path(self, model: str) -> str:
        return f"{PATH}/compact"

    def upstream_body(self, model: str, _max_tokens: int | None, quirks: Quirks) -> bytes:
        return super().upstream_body(model, None, quirks)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage, or None. The output is not counted: it repeats the input."""
        try:
            return measure(replace(decode_lenient(decode_response_facts, body), output=NO_OUTPUT))
        except DECODE_ERRORS:
            return None, 0

    def id_reader(self) -> ResponsesIdReader | None:
        """Return a reader of the ids that a client must send back with the result."""
        return ResponsesIdReader(keeps=False)

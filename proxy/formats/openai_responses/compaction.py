"""Requests that compact a conversation (platform.openai.com/docs/api-reference/responses/compact).

The model runs once and is billed as for a response. The result repeats the user's messages and ends with an
encrypted summary. The client sends the complete result back in its next request, so the provider stores
nothing.
"""

from msgspec.structs import replace

from proxy.formats.json_body import DECODE_ERRORS
from proxy.formats.neutral import InvalidRequest, Usage, reported_or_none
from proxy.formats.openai_responses.account_ids import ResponsesIdReader
from proxy.formats.openai_responses.passthrough import MAX_COMPACTION_TOKENS, ResponsesRequest
from proxy.formats.openai_responses.request import PATH
from proxy.formats.openai_responses.usage import REPORT_FIELDS, decode_usage_fields, parse_usage
from proxy.formats.quirks import Quirks


class CompactRequest(ResponsesRequest):
    """A client's request to compact a conversation."""

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Read the request. Raises InvalidRequest."""
        super().__init__(body)
        if self.facts.is_background:
            raise InvalidRequest("A conversation cannot be compacted in the background.", "background")
        # The tools are only part of the context. The model does not call them.
        self.facts = replace(
            self.facts,
            stream=False,
            max_output_tokens=None,
            fixed_max_output=MAX_COMPACTION_TOKENS,
            max_billable_extras={},
        )

    def path(self, model: str) -> str:
        return f"{PATH}/compact"

    def upstream_body(self, model: str, _max_tokens: int | None, quirks: Quirks) -> bytes:
        return super().upstream_body(model, None, quirks)

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        """Return the reported usage, or None.

        The gateway does not count the output, because it repeats the input.
        """
        try:
            response = decode_usage_fields(body)
        except DECODE_ERRORS:
            return None, 0
        reported = {name: response[name] for name in REPORT_FIELDS if name in response}
        return reported_or_none(parse_usage(reported, self.facts.usage_defaults)), 0

    def id_reader(self) -> ResponsesIdReader | None:
        """Return a reader of the ids that a client must send back with the result."""
        return ResponsesIdReader(can_be_named=False)

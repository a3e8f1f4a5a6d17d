"""OpenAI's legacy text completions, which are passed through and never converted.

Source: platform.openai.com/docs/api-reference/completions.
"""

from typing import Any

import msgspec

from proxy.formats.account_ids import WithoutAccountIds
from proxy.formats.json_body import ModelName, TokenLimit, convert_json, parse_object, replace_fields
from proxy.formats.metering import token_bounds
from proxy.formats.metering.billable import AUTO_TIER, named_tiers, parse_tier
from proxy.formats.metering.unknown_fields import (
    extract_unknown_fields,
    fields_allowing_other_models,
    first_value,
    unbounded_cost_fields,
)
from proxy.formats.neutral import InvalidRequest, Request, RequestFacts, Usage, UsageDefaults
from proxy.formats.openai_chat.encoder import StreamEncoder
from proxy.formats.openai_chat.passthrough import StreamMeter
from proxy.formats.openai_chat.usage import measure
from proxy.formats.openai_chat.wire import ChoiceCount
from proxy.formats.quirks import Quirks
from proxy.formats.streaming.sse import keepalive_comment


class CompletionFields(msgspec.Struct):
    model: ModelName
    prompt: str | list[str | int | list[int]] | None = None
    suffix: str | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: ChoiceCount | None = None
    best_of: ChoiceCount | None = None
    max_tokens: TokenLimit | None = None


BOUNDED_FIELDS = frozenset(CompletionFields.__struct_fields__) | {"metadata", "logit_bias"}


class CreateCompletionRequest(WithoutAccountIds):
    """A client's request for a text completion."""

    stream_content_type = "text/event-stream"
    render_keepalive = staticmethod(keepalive_comment)

    def __init__(self, body: bytes, model: str = "", stream: bool = False) -> None:
        """Parse the request. Raises InvalidRequest.

        The provider bills all `best_of` completions of each prompt, although it returns only `n` of them.
        """
        self.body, self.fields = body, parse_object(body)
        self.request = request = convert_json(self.fields, CompletionFields)
        prompts = prompt_count(request.prompt)
        unknown = extract_unknown_fields(self.fields, BOUNDED_FIELDS)
        written = prompts * max(request.n or 1, request.best_of or 1)
        tier = parse_tier(first_value(unknown, "service_tier"))
        self.facts = RequestFacts(
            model=request.model,
            max_input_tokens=max_input_tokens(request) + token_bounds.unknown_fields_tokens(unknown),
            max_output_tokens=request.max_tokens and request.max_tokens * written,
            n=written,
            stream=bool(request.stream),
            service_tier=tier or AUTO_TIER,
            requested_tiers=named_tiers(service_tier=tier),
            usage_defaults=UsageDefaults(service_tier=tier),
            unbounded_cost_fields=unbounded_cost_fields(unknown),
            other_model_fields=fields_allowing_other_models(unknown),
        )

    def path(self, model: str) -> str:
        return "/completions"

    @property
    def client_wants_usage(self) -> bool:
        return bool(self.request.stream_options and self.request.stream_options.get("include_usage"))

    def upstream_body(self, model: str, max_tokens: int | None, quirks: Quirks) -> bytes:
        """Return the request body with the provider's model name and the output limit.

        For a stream, the body also asks the provider to report usage at the end. In this format, the limit is
        always called `max_tokens`, and OpenAI accepts no `metadata`.
        """
        fields: dict[str, Any] = {}
        if model != self.request.model:
            fields["model"] = model
        if self.request.stream and not self.client_wants_usage and "wants_usage" not in quirks.unsupported:
            fields["stream_options"] = {**(self.request.stream_options or {}), "include_usage": True}
        if max_tokens is not None:
            fields["max_tokens"] = max_tokens
        removed = self.fields.keys() & {"metadata"}
        return replace_fields(self.body, fields, removed) if fields or removed else self.body

    def measure(self, body: bytes) -> tuple[Usage | None, int]:
        return measure(body)

    def meter(self) -> StreamMeter:
        return StreamMeter(withhold_usage=not self.client_wants_usage)

    def encoder(self, request: Request) -> StreamEncoder:
        raise InvalidRequest("Text completions work only with providers that support this format.", "model")


def prompt_count(prompt: str | list[str | int | list[int]] | None) -> int:
    """Return the number of prompts. A list of token ids is one prompt; any other list contains several."""
    return sum(not isinstance(item, int) for item in prompt) or 1 if isinstance(prompt, list) else 1


def max_input_tokens(request: CompletionFields) -> int:
    """Return the upper bound of the input tokens.

    A token id is one token, and a text has at most as many tokens as bytes.
    """
    text = token_bounds.text_tokens(request.prompt or "") + token_bounds.text_tokens(request.suffix or "")
    return (
        token_bounds.TOKENS_PER_REPLY + token_bounds.TOKENS_PER_MESSAGE * prompt_count(request.prompt) + text
    )

"""Non-streaming responses and errors."""

from typing import Any, Literal

from proxy.formats.neutral.content import Frozen, Part

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "other"]


class Usage(Frozen, frozen=True, kw_only=True):
    """Tokens in disjoint buckets, however a vendor nests its counts; `reasoning` is part of `output`.

    `service_tier` is the tier that the provider reports, or empty. `billable_extras` counts by kind what else
    the provider bills: calls of its own tools, and tokens in the buckets that are not text (`input_audio`,
    `output_image`, ...). `estimated` is whether the gateway counted some of it, because the provider did not
    report all of it.
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_12h: int = 0
    output: int = 0
    reasoning: int = 0
    service_tier: str = ""
    billable_extras: dict[str, int] = {}
    estimated: bool = False

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write

    @property
    def cache_write(self) -> int:
        """Tokens written to a cache, for however long."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_write_12h


def reported_or_none(usage: Usage | None) -> Usage | None:
    """Return the usage if it counts any token: every request uses some, so zeros are not a report."""
    return usage if usage is not None and (usage.prompt or usage.output) else None


class Choice(Frozen, frozen=True, kw_only=True):
    """A choice of a response.

    `stop_sequence` is the one that ended it. `logprobs` is OpenAI's list of token entries, if there is one.
    """

    parts: tuple[Part, ...] = ()
    finish_reason: FinishReason = "stop"
    stop_sequence: str | None = None
    logprobs: tuple[Any, ...] = ()


class Response(Frozen, frozen=True, kw_only=True):
    """A non-streaming response; `usage` is None if the provider reports none."""

    id: str
    model: str
    choices: tuple[Choice, ...]
    usage: Usage | None = None
    created: int | None = None


class ApiError(Frozen, frozen=True, kw_only=True):
    """An error.

    `retry_after_s` is the time after which the provider accepts the request, if its body states one.
    `kind` is unknown_model, auth, rate_limit, timeout, invalid_request, server_error or network. `code`
    is the OpenAI API's name for it, `status` the HTTP status that it has or would have.
    """

    kind: str
    code: str
    message: str
    param: str | None = None
    status: int = 500
    retry_after_s: float | None = None

"""Non-streaming responses, usage and errors."""

from typing import Any, Literal

from proxy.formats.neutral.content import Frozen, Part

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "pause", "other"]


class Usage(Frozen, frozen=True, kw_only=True):
    """Token counts of a request in disjoint buckets, except that `reasoning` is a part of `output`.

    `service_tier` is the tier that the provider reports, or empty. `billable_extras` counts, by kind, calls
    of server tools and tokens that are not text (`input_audio`, `output_image`, ...). Such tokens are counted
    in the buckets too. `estimated` is true if the gateway counted a part of the usage because the provider
    did not report all of it.
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
        """The tokens written to a cache, for all lifetimes."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_write_12h


def reported_or_none(usage: Usage | None) -> Usage | None:
    """Return the usage if it counts any token, otherwise None.

    Every request uses some tokens, so zeros mean that nothing was reported.
    """
    return usage if usage is not None and (usage.prompt or usage.output) else None


class Choice(Frozen, frozen=True, kw_only=True):
    """A choice of a response.

    `stop_sequence` is the sequence that ended it. `logprobs` is a list of token entries in OpenAI's form, or
    None.
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
    """An error of a provider or of the gateway.

    `retry_after_s` is the time in seconds after which the provider accepts the request, if the body of the
    error states it. `kind` is unknown_model, auth, rate_limit, timeout, invalid_request, server_error or
    network. `code` is the name of the error in the OpenAI API. `status` is the HTTP status of the error. For
    an error inside of a stream, it is the status that it would have outside of a stream.
    """

    kind: str
    code: str
    message: str
    param: str | None = None
    status: int = 500
    retry_after_s: float | None = None

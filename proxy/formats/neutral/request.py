"""Requests, and the facts of a request that the gateway admits."""

from typing import Any

from proxy.formats.neutral.content import Frozen, Message, Text
from proxy.formats.neutral.tools import ServerTool, Tool, ToolChoice

MAX_TOKENS = 2**31 - 1
"""Largest token count that is accepted, in requests and in reported usage."""


class ResponseFormat(Frozen, frozen=True, kw_only=True):
    """A response in JSON; without `schema`, any JSON."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Reasoning(Frozen, frozen=True, kw_only=True):
    """Setting for how much the model thinks.

    `effort` is none, minimal, low, medium, high or xhigh; `budget` is in tokens (-1: the model decides).
    If both are unset, reasoning is on and the model decides. `visible` is whether the client wants to see
    (a summary of) the thinking. If it is None, `shown_by_default` is whether the client's vendor shows it
    anyway.
    """

    effort: str | None = None
    budget: int | None = None
    visible: bool | None = None
    shown_by_default: bool = False


class Request(Frozen, frozen=True, kw_only=True):
    """A complete request.

    `unmapped_settings` are settings that only the client's format has, by the client's names.
    """

    model: str
    messages: tuple[Message, ...]
    system: tuple[Text, ...] = ()
    tools: tuple[Tool | ServerTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    n: int = 1
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    logprobs: int | None = None
    user: str | None = None
    stream: bool = False
    wants_usage: bool = True
    unmapped_settings: dict[str, Any] = {}


class RequestFacts(Frozen, frozen=True, kw_only=True):
    """The facts of a request that the gateway needs to admit it, in any format.

    `max_input_tokens` is an upper bound. `max_output_tokens` is the client's limit for all choices
    together, or None. `min_output_tokens` is the lowest limit of one choice that the provider accepts.
    `n` is the number of choices requested. `service_tier` is the requested tier: `auto` if the provider
    chooses, empty for the standard tier. `requested_tiers` are the fields that ask for a tier, or for
    something else that changes the price as a tier does, each with that tier. `assumed_tier` is the tier
    that is charged if the response states none. `max_billable_extras` limits by kind what else is billed
    (see `Usage`). `unbounded_cost_fields` are fields whose cost has no known bound,
    `other_model_fields` those by which other models may answer too. `writes_12h_cache`: the request may ask
    to keep its prompt in OpenAI's cache for 12 hours, which costs more. `fixed_max_output` is the most that a
    response can have if no field of the request limits it. `is_background`: the provider goes on with the
    response after the request has ended.
    """

    model: str
    max_input_tokens: int
    max_output_tokens: int | None = None
    min_output_tokens: int = 1
    n: int = 1
    stream: bool = False
    service_tier: str = ""
    requested_tiers: tuple[tuple[str, str], ...] = ()
    assumed_tier: str = ""
    max_billable_extras: dict[str, int] = {}
    unbounded_cost_fields: tuple[str, ...] = ()
    other_model_fields: tuple[str, ...] = ()
    writes_12h_cache: bool = False
    fixed_max_output: int | None = None
    is_background: bool = False

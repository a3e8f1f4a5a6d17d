"""Requests, and the facts about a request that admission needs."""

from typing import Any

from proxy.formats.neutral.content import Frozen, Message, Text
from proxy.formats.neutral.tools import ServerTool, Tool, ToolChoice

MAX_TOKENS = 2**31 - 1
"""Largest token count that is accepted, in requests and in reported usage."""


class ResponseFormat(Frozen, frozen=True, kw_only=True):
    """The response must be JSON. Without `schema`, any JSON is allowed."""

    schema: dict[str, Any] | None = None
    name: str = "answer"
    description: str | None = None
    strict: bool | None = None


class Reasoning(Frozen, frozen=True, kw_only=True):
    """The setting for how much the model thinks.

    `effort` is none, minimal, low, medium, high or xhigh. `budget` is in tokens; -1 means that the model
    decides. If both are unset, reasoning is on and the model decides. `visible` says whether the client wants
    to see the thinking or a summary of it. If it is None, `shown_by_default` says whether the client's vendor
    shows thinking by default.
    """

    effort: str | None = None
    budget: int | None = None
    visible: bool | None = None
    shown_by_default: bool = False


class Request(Frozen, frozen=True, kw_only=True):
    """A complete request.

    `unmapped_settings` are settings that only the client's format has, with the names that the client uses.
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


class UsageDefaults(Frozen, frozen=True, kw_only=True):
    """Priced properties of a request, which are charged unless the response reports others.

    `service_tier` is the requested tier. `speed` and `region` are settings of Anthropic, of which its tier
    consists. `cache_lifetime` is the lifetime of cache writes, 1h or 12h; empty for the shortest one. `tools`
    are the request's tools in JSON. Their settings, such as the memory of a container, decide on fees.
    `modalities` are the kinds that the tokens of the input or output may have, such as `input_audio`.
    """

    service_tier: str = ""
    speed: str = ""
    region: str = ""
    cache_lifetime: str = ""
    tools: list[dict[str, Any]] = []
    modalities: tuple[str, ...] = ()


NO_DEFAULTS = UsageDefaults()


class RequestFacts(Frozen, frozen=True, kw_only=True):
    """The facts about a request of any format that admission needs.

    `max_input_tokens` is an upper bound. `max_output_tokens` is the client's limit for all choices together,
    or None. `min_output_tokens` is the lowest limit of one choice that the provider accepts. `n` is the
    requested number of choices. `service_tier` is the requested tier: `auto` if the provider chooses, empty
    for the standard tier. `requested_tiers` are the fields that ask for a tier, each with its tier. Some of
    these fields set something else that changes the price like a tier. `usage_defaults` are charged if the
    response does not report them. `max_billable_extras` is the maximum of each kind of billable extras (see
    `Usage`). `unbounded_cost_fields` are fields whose cost has no known bound. `other_model_fields` are
    fields that allow other models to generate a part of the response. `writes_12h_cache` is true if the
    request may ask OpenAI to cache its prompt for 12 hours, which costs more. `fixed_max_output` is the
    maximum output of a response if no field of the request limits it. `is_background` is true if the provider
    continues the response after the request has ended. `default_settings` are the fields that the client left
    out and the gateway has set.
    """

    model: str
    max_input_tokens: int
    max_output_tokens: int | None = None
    min_output_tokens: int = 1
    n: int = 1
    stream: bool = False
    service_tier: str = ""
    requested_tiers: tuple[tuple[str, str], ...] = ()
    usage_defaults: UsageDefaults = NO_DEFAULTS
    max_billable_extras: dict[str, int] = {}
    unbounded_cost_fields: tuple[str, ...] = ()
    other_model_fields: tuple[str, ...] = ()
    writes_12h_cache: bool = False
    fixed_max_output: int | None = None
    is_background: bool = False
    default_settings: tuple[str, ...] = ()

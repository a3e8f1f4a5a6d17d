"""generationConfig (ai.google.dev/api/generate-content#generationconfig), both ways."""

from typing import Annotated, Any

from msgspec import Meta

from proxy.formats.gemini.content import WireStruct
from proxy.formats.gemini.json_schema import to_json_schema
from proxy.formats.neutral import Reasoning, Request, ResponseFormat

MAX_TOKENS = 2**31 - 1
MAX_N = 128
MAX_STOP_SEQUENCES = 5
JSON_TYPE = "application/json"
DYNAMIC_BUDGET = -1
BUDGET_BY_EFFORT = {"minimal": 512, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576}
MAX_BUDGET, MAX_PRO_BUDGET, MIN_PRO_BUDGET = 24_576, 32_768, 128
"""ai.google.dev/gemini-api/docs/thinking, "Thinking budgets": Pro cannot stop thinking."""
LEVEL_ALIASES = {"none": "minimal", "xhigh": "high"}
PRO_LEVEL_ALIASES = {"none": "low", "minimal": "low", "xhigh": "high"}

TokenLimit = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]


class ThinkingConfig(WireStruct):
    include_thoughts: bool | None = None
    thinking_budget: int | None = None
    thinking_level: str | None = None


class GenerationConfig(WireStruct):
    max_output_tokens: TokenLimit | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Annotated[float, Meta(ge=-MAX_TOKENS, le=MAX_TOKENS)] | None = None
    stop_sequences: list[str] | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    candidate_count: Annotated[int, Meta(ge=0, le=MAX_N)] | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: ThinkingConfig | None = None
    response_logprobs: bool | None = None
    logprobs: int | None = None


def parse_response_format(config: GenerationConfig) -> ResponseFormat | None:
    if config.response_mime_type != JSON_TYPE:
        return None
    return ResponseFormat(
        schema=config.response_json_schema or to_json_schema(config.response_schema) or None
    )


def parse_reasoning(config: ThinkingConfig | None) -> Reasoning | None:
    """A budget of 0 turns thinking off; thoughts that nobody configured otherwise are as the model likes."""
    if config is None:
        return None
    level = (config.thinking_level or "").lower()
    effort = "none" if config.thinking_budget == 0 else level if level in BUDGET_BY_EFFORT else None
    budget = config.thinking_budget or None
    if effort is None and budget is None and not config.include_thoughts:
        return None
    return Reasoning(effort=effort, budget=budget, visible=config.include_thoughts)


def render_settings(request: Request, dropped: list[str]) -> dict[str, Any]:
    """The generationConfig, if anything is set; adds to `dropped` what does not fit into it."""
    stop = [text for text in request.stop if text]
    if len(stop) > MAX_STOP_SEQUENCES:
        dropped.append("stop")
    settings: dict[str, Any] = {
        "maxOutputTokens": request.max_tokens,
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "stopSequences": stop[:MAX_STOP_SEQUENCES] or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "candidateCount": request.n if request.n > 1 else None,
        "responseLogprobs": True if request.logprobs is not None else None,
        "logprobs": request.logprobs or None,
        "thinkingConfig": request.reasoning and render_reasoning(request.reasoning, request.model),
    }
    config = {name: value for name, value in settings.items() if value is not None} | render_response_format(
        request.response_format
    )
    return {"generationConfig": config} if config else {}


def render_response_format(response_format: ResponseFormat | None) -> dict[str, Any]:
    if response_format is None:
        return {}
    return {"responseMimeType": JSON_TYPE} | (
        {"responseJsonSchema": response_format.schema} if response_format.schema else {}
    )


def render_reasoning(reasoning: Reasoning, model: str) -> dict[str, Any]:
    visible = (
        {"includeThoughts": True}
        if reasoning.visible or (reasoning.shown_by_default and reasoning.visible is None)
        else {}
    )
    return visible | (
        render_thinking_level(reasoning, model)
        if is_gemini_3(model)
        else render_thinking_budget(reasoning, model)
    )


def is_gemini_3(model: str) -> bool:
    return "gemini-3" in model


def render_thinking_level(reasoning: Reasoning, model: str) -> dict[str, Any]:
    """Gemini 3 takes levels, and budgets as its forerunners did, never both."""
    if reasoning.budget is not None:
        return {"thinkingBudget": reasoning.budget}
    if reasoning.effort is None:
        return {}
    levels = PRO_LEVEL_ALIASES if "-pro" in model else LEVEL_ALIASES
    return {"thinkingLevel": levels.get(reasoning.effort, reasoning.effort)}


def render_thinking_budget(reasoning: Reasoning, model: str) -> dict[str, Any]:
    is_pro = "-pro" in model
    if reasoning.effort == "none":
        return {"thinkingBudget": MIN_PRO_BUDGET if is_pro else 0}
    budget = (
        reasoning.budget
        if reasoning.budget is not None
        else BUDGET_BY_EFFORT.get(reasoning.effort or "", DYNAMIC_BUDGET)
    )
    return {"thinkingBudget": min(budget, MAX_PRO_BUDGET if is_pro else MAX_BUDGET)}

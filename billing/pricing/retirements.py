"""Retirement dates of models, as their vendors have announced them.

A vendor's API rejects a model from its retirement day on. Only dates with a source are here. If the vendor
only states "not sooner than", the model has no date here.
"""

import datetime as dt
from typing import NamedTuple

OPENAI_SOURCE = "developers.openai.com/api/docs/deprecations"
ANTHROPIC_SOURCE = "platform.claude.com/docs/en/about-claude/model-deprecations"
GEMINI_SOURCE = "ai.google.dev/gemini-api/docs/deprecations"
CHECKED = dt.date(2026, 11, 30)
"""The day on which the sources were read."""
MAX_SUCCESSIONS = 8


class Retirement(NamedTuple):
    """The retirement of some models on one day.

    `successor` is the vendor's recommended replacement; empty if the vendor names none that takes the same
    requests.
    """

    provider_id: str
    date: dt.date
    successor: str
    models: tuple[str, ...]
    source: str


def openai(date: str, successor: str, *models: str) -> Retirement:
    return Retirement("openai", dt.date.fromisoformat(date), successor, models, OPENAI_SOURCE)


def anthropic(date: str, successor: str, *models: str) -> Retirement:
    return Retirement("anthropic", dt.date.fromisoformat(date), successor, models, ANTHROPIC_SOURCE)


def gemini(date: str, successor: str, *models: str) -> Retirement:
    return Retirement("google", dt.date.fromisoformat(date), successor, models, GEMINI_SOURCE)


# Some of the names are aliases of a vendor. Others, such as `claude-3.5-sonnet`, were never the vendor's, but
# people use them.
RETIREMENTS = (
    openai("2024-01-04", "", "ada", "babbage", "curie", "davinci", "text-davinci-002", "text-davinci-003"),
    openai(
        "2024-09-13",
        "gpt-5.6-terra",
        "gpt-3.5-turbo-0301",
        "gpt-3.5-0301",
        "gpt-3.5-turbo-0613",
        "gpt-3.5-turbo-16k",
    ),
    openai("2024-12-06", "gpt-5.6-sol", "gpt-4-vision-preview", "gpt-4-1106-vision-preview"),
    openai("2025-06-06", "gpt-5.6-sol", "gpt-4-32k", "gpt-4-32k-0314", "gpt-4-32k-0613"),
    openai("2025-07-14", "gpt-5.6-sol", "gpt-4.5-preview", "gpt-4.5-preview-2025-02-27"),
    openai("2025-07-28", "gpt-5.6-sol", "o1-preview", "o1-preview-2024-09-12"),
    openai("2025-10-27", "gpt-5.6-terra", "o1-mini", "o1-mini-2024-09-12"),
    openai("2026-02-12", "gpt-5.6-terra", "codex-mini-latest"),
    openai("2026-02-17", "gpt-5.6-sol", "chatgpt-4o-latest"),
    openai("2026-03-26", "gpt-5.6-sol", "gpt-4-0125-preview", "gpt-4-0314", "gpt-4-turbo-preview"),
    openai(
        "2026-07-23",
        "gpt-5.6-sol",
        *("gpt-5-chat-latest", "gpt-5-codex", "gpt-5.1-chat-latest", "gpt-5.1-codex", "gpt-5.1-codex-max"),
        *("gpt-5.2-codex", "o3-deep-research", "o3-deep-research-2025-06-26"),
        *("o4-mini-deep-research", "o4-mini-deep-research-2025-06-26"),
    ),
    openai(
        "2026-07-23",
        "gpt-5.6-terra",
        *("gpt-5.1-codex-mini", "computer-use-preview", "computer-use-preview-2025-03-11"),
        *("gpt-4o-search-preview-2025-03-11", "gpt-4o-mini-search-preview-2025-03-11"),
    ),
    openai("2026-08-10", "gpt-5.6-sol", "gpt-5.2-chat-latest", "gpt-5.3-chat-latest"),
    openai("2026-09-28", "gpt-5.6-terra", "gpt-3.5-turbo-1106"),
    # No successor is given, because the model that OpenAI recommends has no completions API.
    openai("2026-09-28", "", "gpt-3.5-turbo-instruct", "babbage-002", "davinci-002"),
    openai("2026-10-23", "gpt-5.6-terra", "gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
    openai("2026-10-23", "gpt-5.6-terra", "o4-mini", "o4-mini-2025-04-16"),
    openai(
        "2026-10-23",
        "gpt-5.6-sol",
        *("gpt-4", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-turbo", "gpt-4-turbo-2024-04-09"),
        *("gpt-4o-2024-05-13", "o1", "o1-2024-12-17", "o1-pro", "o1-pro-2025-03-19"),
        *("o3-mini", "o3-mini-2025-01-31"),
    ),
    openai("2026-10-23", "gpt-5.6-luna", "gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"),
    openai("2026-12-11", "gpt-6.1-sol", "gpt-5", "gpt-5-2025-08-07", "o3", "o3-2025-04-16"),
    openai("2026-12-11", "gpt-6.1-sol", "gpt-5-pro", "gpt-5-pro-2025-10-06", "o3-pro", "o3-pro-2025-06-10"),
    openai("2026-12-11", "gpt-6.1-terra", "gpt-5-mini", "gpt-5-mini-2025-08-07"),
    openai("2026-12-11", "gpt-6-luna", "gpt-5-nano", "gpt-5-nano-2025-08-07"),
    openai(
        "2027-01-14",
        "gpt-6-luna",
        *("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
        *("gpt-4.1", "gpt-4.1-2025-04-14", "gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"),
    ),
    openai("2027-01-20", "gpt-audio-1.5", "gpt-audio", "gpt-audio-mini", "gpt-4o-audio-preview"),
    openai("2027-04-01", "gpt-6-sol", "gpt-5.1", "gpt-5.1-2025-11-13", "gpt-5.3-codex"),
    openai("2027-04-01", "gpt-6-luna", "gpt-5.4-nano", "gpt-5.4-nano-2026-03-17"),
    anthropic(
        "2024-11-06",
        "claude-haiku-4-5",
        "claude-v1",
        "claude-1.3",
        "claude-instant-1.1",
        "claude-instant-1.2",
    ),
    anthropic("2025-07-21", "claude-opus-4-8", "claude-2", "claude-2.0", "claude-2.1"),
    anthropic("2025-07-21", "claude-sonnet-4-6", "claude-3-sonnet-20240229", "claude-3-sonnet"),
    anthropic(
        "2025-10-28",
        "claude-sonnet-4-6",
        *("claude-3-5-sonnet-20240620", "claude-3-5-sonnet-20241022", "claude-3-5-sonnet-latest"),
        *("claude-3-5-sonnet", "claude-3.5-sonnet"),
    ),
    anthropic(
        "2026-01-05", "claude-opus-4-8", "claude-3-opus-20240229", "claude-3-opus-latest", "claude-3-opus"
    ),
    anthropic(
        "2026-02-19",
        "claude-sonnet-4-6",
        *("claude-3-7-sonnet-20250219", "claude-3-7-sonnet-latest", "claude-3-7-sonnet", "claude-3.7-sonnet"),
    ),
    anthropic(
        "2026-02-19",
        "claude-haiku-4-5",
        *("claude-3-5-haiku-20241022", "claude-3-5-haiku-latest", "claude-3-5-haiku", "claude-3.5-haiku"),
    ),
    anthropic("2026-04-20", "claude-haiku-4-5", "claude-3-haiku-20240307", "claude-3-haiku"),
    anthropic("2026-06-15", "claude-opus-4-8", "claude-opus-4-20250514", "claude-opus-4-0", "claude-opus-4"),
    anthropic(
        "2026-06-15", "claude-sonnet-4-6", "claude-sonnet-4-20250514", "claude-sonnet-4-0", "claude-sonnet-4"
    ),
    anthropic("2026-08-05", "claude-opus-4-8", "claude-opus-4-1-20250805", "claude-opus-4-1"),
    anthropic("2026-11-30", "claude-sonnet-5-5", "claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
    anthropic("2027-01-22", "claude-opus-5-5", "claude-opus-4-5-20251101", "claude-opus-4-5"),
    gemini("2025-02-18", "gemini-3.8-flash", "gemini-1.0-pro", "gemini-pro", "gemini-1.0-pro-vision-001"),
    gemini(
        "2025-09-29",
        "gemini-3.8-flash",
        *(
            "gemini-1.5-pro",
            "gemini-1.5-pro-001",
            "gemini-1.5-pro-002",
            "gemini-1.5-pro-latest",
            "gemini-pro-1.5",
        ),
    ),
    gemini(
        "2025-09-29",
        "gemini-3.5-flash-lite",
        *("gemini-1.5-flash", "gemini-1.5-flash-001", "gemini-1.5-flash-002", "gemini-1.5-flash-latest"),
        *("gemini-1.5-flash-8b", "gemini-flash-1.5", "gemini-flash-1.5-8b"),
    ),
    gemini("2025-11-18", "gemini-3.6-flash", "gemini-2.5-flash-preview", "gemini-2.5-flash-preview-05-20"),
    gemini("2025-12-09", "gemini-3.6-flash", "gemini-2.0-flash-exp", "gemini-2.0-pro-exp"),
    gemini("2026-01-14", "", "text-embedding-004"),
    gemini("2026-03-09", "gemini-3.1-pro-preview", "gemini-3-pro-preview"),
    gemini("2026-05-25", "gemini-3.1-flash-lite", "gemini-3.1-flash-lite-preview"),
    gemini("2026-06-01", "gemini-3.6-flash", "gemini-2.0-flash", "gemini-2.0-flash-001"),
    gemini("2026-06-01", "gemini-3.1-flash-lite", "gemini-2.0-flash-lite", "gemini-2.0-flash-lite-001"),
    gemini("2026-12-01", "gemini-3.8-flash", "gemini-2.5-pro"),
    gemini("2026-12-01", "gemini-3.5-flash-lite", "gemini-2.5-flash"),
    gemini("2027-05-07", "gemini-3.5-flash-lite", "gemini-3.1-flash-lite"),
)
BY_MODEL = {(row.provider_id, model): row for row in RETIREMENTS for model in row.models}


def find_retirement(provider_id: str, model: str) -> Retirement | None:
    """Return the announced retirement of a model, or None. `provider_id` is the name in genai-prices."""
    return BY_MODEL.get((provider_id, model))


def current_model(retirement: Retirement, model: str, today: dt.date) -> str:
    """Return the model that serves a name on a day: the model, or its first successor that is not retired."""
    served = model
    current: Retirement | None = retirement
    for _ in range(MAX_SUCCESSIONS):
        if current is None or today < current.date or not current.successor:
            break
        served = current.successor
        current = find_retirement(current.provider_id, served)
    return served

"""Errors of providers: tables of vendors' errors, messages, and errors of prompts that are too long.

Fields of an error may have any JSON type. If the message is not a text, the texts inside of it are used. If
there are none, the error has no message.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from msgspec.structs import replace

from proxy.formats.json_body import as_dict
from proxy.formats.neutral import ApiError

MAX_MESSAGE_LENGTH = 2000
DEEPEST = 8
"""How many levels of an error are searched, because a body may be nested too deeply for recursion."""

MODERATION_FIELDS = {"reasons", "flagged_input"}
"""Metadata fields of an OpenRouter error for flagged input, which has status 403.

Source: openrouter.ai/docs/api-reference/errors, "Moderation errors".
"""
REFUSED_CONTENT = ("usage guidelines", "safety_check")
"""Texts in xAI's 403 errors for content that it refuses (docs.x.ai, "Debugging errors")."""


class ErrorRow(NamedTuple):
    """Row of an error table: the vendor's name of the error (`type`, `code` or `status`), and its status.

    `kind` and `code` are those of `ApiError`.
    """

    name: str
    status: int
    kind: str
    code: str


class ErrorTable:
    """The errors of a vendor. If several rows have the same name or status, the first one is used.

    A status from 400 to 499 without a row is treated as a 400, and any other status without a row as a 500.
    Each table has rows for both.
    """

    def __init__(self, rows: Iterable[tuple[str, int, str, str]]) -> None:
        self.by_name: dict[str, ErrorRow] = {}
        self.by_status: dict[int, ErrorRow] = {}
        for row in map(ErrorRow._make, rows):
            self.by_name.setdefault(row.name, row)
            self.by_status.setdefault(row.status, row)

    def for_status(self, status: int) -> ErrorRow:
        """Return the row of an HTTP status."""
        return self.by_status.get(status) or self.by_status[400 if 400 <= status < 500 else 500]

    def status_of(self, name: str, default: int) -> int:
        """Return the HTTP status of an error, given the name that a vendor uses."""
        row = self.by_name.get(name)
        return row.status if row else default


def message_of(error: Any, depth: int = DEEPEST) -> str:
    """Return the text of an error; empty if it has none."""
    match error:
        case _ if depth == 0:
            return ""
        case str():
            return error
        case {"message": str(message), "metadata": {"raw": str(raw)}} if message:
            # OpenRouter hides the provider's own message behind "Provider returned error".
            return f"{message}: {raw}"
        case {"msg": str(text), "loc": [*place]} if text:
            return f"{place_of(place)}: {text}" if place_of(place) else text  # FastAPI's form
        case dict():
            named = (error.get(name) for name in ("message", "msg", "error", "errors", "detail"))
            return next(filter(None, (message_of(value, depth - 1) for value in named)), "")
        case list():
            return "; ".join(filter(None, (message_of(value, depth - 1) for value in error)))
        case _:
            return ""


def place_of(steps: list[Any]) -> str:
    """Return FastAPI's list of names and indexes as a path with dots."""
    return ".".join(str(step) for step in steps if isinstance(step, str | int) and not isinstance(step, bool))


def is_about_content(error: dict[str, Any], message: str) -> bool:
    """Return whether a provider refuses the content of a request, and not the API key."""
    return bool(MODERATION_FIELDS & as_dict(error.get("metadata")).keys()) or any(
        text in message.lower() for text in REFUSED_CONTENT
    )


def unspecified_message(status: int) -> str:
    """Return the message of an error without a text. It contains the status."""
    return f"The provider answered with status {status}."


# Prompts that are too long ------------------------------------------------------------------------

CONTEXT_LENGTH_CODE = "context_length_exceeded"
"""OpenAI's code for a prompt that is too long. Agents compact their history when they receive it."""
CONTEXT_LENGTH_TEXTS = re.compile(
    "|".join(
        (
            "context_length_exceeded",  # OpenAI, Groq, Cerebras
            "maximum context length",  # OpenAI, vLLM, DeepSeek, OpenRouter, Mistral
            "exceeds the context window",  # OpenAI (Responses)
            "prompt is too long",  # Anthropic
            "exceed context limit",  # Anthropic: input and max_tokens together
            "input token count.*exceeds the maximum",  # Google
            "maximum prompt length is",  # xAI
            "reduce the length of the messages",  # Groq, Cerebras
            "input is too long for",  # Bedrock
            "exceeded model token limit",  # Moonshot
            "context window exceeds limit",  # MiniMax
            "exceeds? the available context size",  # llama.cpp
            "exceed_context_size_error",  # llama.cpp
            "greater than the context length",  # LM Studio
            "exceeds (?:the )?(?:maximum )?context length",  # Ollama, SGLang
            "inputs` tokens .* must be <=",  # Text Generation Inference
        )
    ),
    re.IGNORECASE | re.DOTALL,
)
"""Texts of servers that reject a prompt because it is too long."""
OTHER_CAUSES = ("auth", "rate_limit")
"""Kinds of errors that are never about the length of a prompt, but whose texts may mention tokens."""
SUM_AND_LIMIT = re.compile(r"(\d+) \+ (\d+) > (\d+)")
NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d+")
SMALLEST_LIMIT = 256
"""Numbers below this limit in a message are not lengths of prompts or context windows."""


class ContextLengthWords(NamedTuple):
    """A vendor's error texts for a prompt that is too long, in which agents look for `marker`.

    `counted` is the text if the tokens are known, `uncounted` if they are not.
    """

    marker: str
    counted: str
    uncounted: str


def recognize_context_length(error: ApiError) -> ApiError:
    """Return the error with OpenAI's code and status if its text says that the prompt is too long."""
    if error.kind in OTHER_CAUSES or not (
        error.code == CONTEXT_LENGTH_CODE or CONTEXT_LENGTH_TEXTS.search(error.message)
    ):
        return error
    return replace(error, kind="invalid_request", code=CONTEXT_LENGTH_CODE, status=400)


def with_context_length_words(error: ApiError, words: ContextLengthWords) -> ApiError:
    """Return the error. If it means that the prompt is too long, give it the vendor's text."""
    if error.code != CONTEXT_LENGTH_CODE or words.marker in error.message:
        return error
    counts = used_and_limit(error.message)
    if counts is None:
        return replace(error, message=words.uncounted.format(message=error.message))
    used, limit = counts
    return replace(error, message=words.counted.format(used=used, limit=limit))


def used_and_limit(message: str) -> tuple[int, int] | None:
    """Return the tokens of the prompt and the limit that a message states, or None.

    Vendors state these numbers in different orders. The larger number is the prompt.
    """
    if found := SUM_AND_LIMIT.search(message):
        given, output, limit = map(int, found.groups())
        return given + output, limit
    numbers = [int(text.replace(",", "")) for text in NUMBER.findall(message)]
    first_two = [number for number in numbers if number >= SMALLEST_LIMIT][:2]
    return (max(first_two), min(first_two)) if len(first_two) == 2 else None

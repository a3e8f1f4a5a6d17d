"""The strict provider. The path of a request selects the format.

Chat Completions and Responses of OpenAI are below `/v1`, a compatible server below `/compatible/v1`, a server
that requires its reasoning back below `/reasoning/v1`, and Google's compatible server below `/v1beta/openai`.
Anthropic and Gemini are at the root. The Messages API of a server that requires its thinking back is below
`/reasoning`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from proxy.formats.constraints.constraint import Destination
from tests.support.strict_provider import (
    anthropic_answers,
    anthropic_rules,
    gemini_answers,
    gemini_rules,
    openai_chat_answers,
    openai_chat_rules,
    openai_responses_answers,
    openai_responses_rules,
)
from tests.support.strict_provider.agent_script import next_turn
from tests.support.vendor_checker import violations as constraint_violations

Json = dict[str, Any]
Complete = Callable[[], Json]
Stream = Callable[[], Iterator[bytes]]

GEMINI_PATH = re.compile(r".*/models/(?P<model>[^/]+):(?P<method>\w+)")
GOOGLE_PATH = "/v1beta/openai"
TOKEN_COUNT = 1234
CHAT_SERVERS = {"v1": "openai", "compatible": "compatible", "reasoning": "deepseek", "v1beta": "google"}
"""Provider of each base URL of Chat Completions."""


@dataclass(frozen=True)
class Answer:
    """Response to a request: the reasons for a rejection, or the model's turn, complete and as a stream."""

    violations: tuple[str, ...]
    complete: Complete
    stream: Stream
    streams: bool


@dataclass
class StrictProvider:
    """Handler of a local upstream. `refusals` are the violations of all requests, by format."""

    refusals: list[str] = field(default_factory=list)
    store: openai_responses_rules.ResponseStore = field(default_factory=openai_responses_rules.ResponseStore)

    async def respond(self, request: web.Request, body: Json) -> web.StreamResponse:
        if request.path.endswith(("/count_tokens", ":countTokens")):
            return web.json_response({"input_tokens": TOKEN_COUNT, "totalTokens": TOKEN_COUNT})
        answer = self.answer(request.path, body)
        if answer is None:
            return web.json_response({"error": {"message": f"not found: {request.path}"}}, status=404)
        if answer.violations:
            self.refusals += [f"{request.path}: {violation}" for violation in answer.violations]
            return web.json_response(refusal(request.path, answer.violations[0]), status=400)
        if answer.streams:
            return await streamed(request, answer.stream())
        return web.json_response(answer.complete())

    def answer(self, path: str, body: Json) -> Answer | None:
        if path.endswith("/chat/completions"):
            return chat_answer(path, body)
        if path.endswith("/responses"):
            return self.responses_answer(body)
        if path.endswith("/messages"):
            return messages_answer(path, body)
        if match := GEMINI_PATH.fullmatch(path):
            return gemini_answer(match["model"], match["method"], body)
        return None

    def responses_answer(self, body: Json) -> Answer:
        rules, answers = openai_responses_rules, openai_responses_answers
        turn = next_turn(rules.conversation(body, self.store))
        return Answer(
            (*rules.violations(body, self.store), *refused("openai_responses", "openai", body)),
            lambda: answers.complete(turn, body, self.store),
            lambda: answers.stream(turn, body, self.store),
            bool(body.get("stream")),
        )


def chat_answer(path: str, body: Json) -> Answer:
    rules, answers = openai_chat_rules, openai_chat_answers
    turn = next_turn(rules.conversation(body))
    server = answers.Server(
        shows_reasoning=path.startswith(("/compatible", "/reasoning")),
        signs_calls=path.startswith(GOOGLE_PATH),
    )
    known = rules.without_signatures(body) if server.signs_calls else body
    violations = [
        *rules.violations(known, knows_reasoning=server.shows_reasoning),
        *refused("openai_chat", CHAT_SERVERS[path.split("/")[1]], body),
    ]
    if path.startswith("/reasoning"):
        violations += rules.reasoning_violations(body)
    if server.signs_calls:
        violations += rules.signature_violations(body)
    return Answer(
        tuple(violations),
        lambda: answers.complete(turn, body, server),
        lambda: answers.stream(turn, body, server),
        bool(body.get("stream")),
    )


def messages_answer(path: str, body: Json) -> Answer:
    rules, answers = anthropic_rules, anthropic_answers
    turn = next_turn(rules.conversation(body))
    signs = not path.startswith("/reasoning")
    violations = rules.violations(body) if signs else rules.unsigned_violations(body)
    return Answer(
        (*violations, *refused("anthropic", "anthropic" if signs else "deepseek", body)),
        lambda: answers.complete(turn, body, signs=signs),
        lambda: answers.stream(turn, body, signs=signs),
        bool(body.get("stream")),
    )


def gemini_answer(model: str, method: str, body: Json) -> Answer:
    rules, answers = gemini_rules, gemini_answers
    body = rules.with_camel_case(body)
    turn = next_turn(rules.conversation(body))
    return Answer(
        (*rules.violations(body, model), *refused("gemini", "gemini", body, model)),
        lambda: answers.complete(turn, model),
        lambda: answers.stream(turn, model),
        method == "streamGenerateContent",
    )


def refused(format: str, provider: str, body: Json, model: str = "") -> list[str]:
    """Return what the table of constraints says about the request."""
    return constraint_violations(
        body, Destination(provider=provider, format=format, model=model or str(body.get("model")))
    )


def refusal(path: str, message: str) -> Json:
    """Return the vendor's error for a request that it rejects."""
    if path.endswith("/messages"):
        return {"type": "error", "error": {"type": "invalid_request_error", "message": message}}
    if GEMINI_PATH.fullmatch(path):
        return {"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}


async def streamed(request: web.Request, events: Iterable[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in events:
        await response.write(event)
    await response.write_eof()
    return response

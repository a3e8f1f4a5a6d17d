"""Clients of each format. They store the history like the vendors' SDKs, and send it back."""

import json
from dataclasses import dataclass, field
from typing import Any

from proxy.formats import anthropic, gemini, openai_chat, openai_responses
from proxy.formats.codec import ClientRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.quirks import Quirks
from proxy.pipeline.conversion import ConvertedRequest, PassThrough
from tests.proxy.formats.golden.stream_readers import events_of, read_stream
from tests.support.converted_requests import converted_request
from tests.support.strict_provider.agent_script import TOOL_OUTPUT
from tests.support.strict_provider.provider import StrictProvider

Json = dict[str, Any]

SCHEMA: Json = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}
TOOL = {"name": "run", "description": "Run a command"}


@dataclass(frozen=True)
class Vendor:
    """A vendor's API and model; `prefix` is its base path at the scripted provider."""

    provider: str
    format: str
    model: str
    prefix: str = ""


@dataclass(frozen=True)
class Turn:
    """A request to a vendor, the reasons of a rejection, the response, and the dropped settings."""

    sent: bytes
    violations: tuple[str, ...]
    answer: bytes
    dropped: tuple[str, ...]


@dataclass
class Client:
    """A client. Subclasses implement the requests and responses of their format."""

    format: str
    streams: bool
    history: list[Json] = field(default_factory=list)
    provider: StrictProvider = field(default_factory=StrictProvider)

    def take_turn(self, vendor: Vendor) -> Turn:
        """Send the history through the gateway. Store the response and the results of its tool calls."""
        plan = self.plan(vendor)
        upstream = plan.render_upstream(None)
        path = vendor.prefix + upstream.path.partition("?")[0]
        answer = self.provider.answer(path, json.loads(upstream.body))
        assert answer is not None
        if answer.violations:
            return Turn(upstream.body, answer.violations, b"", upstream.dropped)
        if self.streams:
            data = b"".join(answer.stream())
            meter = plan.meter()
            response = meter.feed(data) + meter.finish()
        else:
            data = json.dumps(answer.complete()).encode()
            response = plan.parse_response(data).render()
        self.keep(response)
        return Turn(upstream.body, (), data, upstream.dropped)

    def plan(self, vendor: Vendor) -> PassThrough | ConvertedRequest:
        request = self.client_request(json.dumps(self.body(vendor.model)).encode(), vendor.model)
        destination = Destination(vendor.provider, vendor.format, vendor.model)
        if vendor.format == self.format:
            return PassThrough(request, destination, Quirks())
        return converted_request(request, self.format, destination)

    def read(self, response: bytes) -> Json:
        found: Json = read_stream(self.format, response) if self.streams else json.loads(response)
        return found

    def ask(self, text: str) -> None:
        """Add a message of the user."""
        self.history.append({"role": "user", "content": text})

    def client_request(self, body: bytes, model: str) -> ClientRequest:
        raise NotImplementedError

    def body(self, model: str) -> Json:
        raise NotImplementedError

    def keep(self, response: bytes) -> None:
        raise NotImplementedError


class ChatClient(Client):
    def client_request(self, body: bytes, model: str) -> ClientRequest:
        return openai_chat.ChatRequest(body)

    def body(self, model: str) -> Json:
        tools = [{"type": "function", "function": {**TOOL, "parameters": SCHEMA}}]
        usage = {"stream": True, "stream_options": {"include_usage": True}} if self.streams else {}
        return {"model": model, "messages": self.history, "tools": tools, "reasoning_effort": "low", **usage}

    def keep(self, response: bytes) -> None:
        message = self.read(response)["choices"][0]["message"]
        message = {name: value for name, value in message.items() if name in ("role", "content") or value}
        self.history.append(message)
        for call in message.get("tool_calls", ()):
            self.history.append({"role": "tool", "tool_call_id": call["id"], "content": TOOL_OUTPUT})


class ResponsesClient(Client):
    def client_request(self, body: bytes, model: str) -> ClientRequest:
        return openai_responses.ResponsesRequest(body)

    def body(self, model: str) -> Json:
        settings = {"reasoning": {"effort": "medium", "summary": "auto"}, "store": False}
        include = ["reasoning.encrypted_content"]
        tools = [{"type": "function", **TOOL, "parameters": SCHEMA}]
        stream = {"stream": True} if self.streams else {}
        return {
            "model": model,
            "input": self.history,
            "tools": tools,
            "include": include,
            **settings,
            **stream,
        }

    def keep(self, response: bytes) -> None:
        output = self.read(response)["output"]
        self.history += output
        for item in output:
            if item["type"] == "function_call":
                result = {"type": "function_call_output", "call_id": item["call_id"]}
                self.history.append({**result, "output": TOOL_OUTPUT})


class MessagesClient(Client):
    def client_request(self, body: bytes, model: str) -> ClientRequest:
        return anthropic.MessagesRequest(body)

    def body(self, model: str) -> Json:
        tools = [{**TOOL, "input_schema": SCHEMA}]
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "max_tokens": 9000}
        stream = {"stream": True} if self.streams else {}
        return {"model": model, "messages": self.history, "tools": tools, **thinking, **stream}

    def keep(self, response: bytes) -> None:
        blocks = self.read(response)["content"]
        self.history.append({"role": "assistant", "content": blocks})
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": TOOL_OUTPUT}
            for block in blocks
            if block["type"] == "tool_use"
        ]
        if results:
            self.history.append({"role": "user", "content": results})


class GeminiClient(Client):
    """A client of Google's format. Like Google's SDKs, it stores each chunk of a stream as a content."""

    def ask(self, text: str) -> None:
        self.history.append({"role": "user", "parts": [{"text": text}]})

    def client_request(self, body: bytes, model: str) -> ClientRequest:
        return gemini.GenerateContentRequest(body, model, self.streams)

    def body(self, model: str) -> Json:
        tools = [{"functionDeclarations": [{**TOOL, "parametersJsonSchema": SCHEMA}]}]
        config = {"thinkingConfig": {"includeThoughts": True}}
        return {"contents": self.history, "tools": tools, "generationConfig": config}

    def keep(self, response: bytes) -> None:
        chunks = events_of(response) if self.streams else [json.loads(response)]
        contents = [chunk["candidates"][0]["content"] for chunk in chunks]
        kept = [kept for content in contents if (kept := self.kept(content))["parts"]]
        self.history += kept
        calls = [
            part["functionCall"] for content in kept for part in content["parts"] if "functionCall" in part
        ]
        if calls:
            self.history.append({"role": "user", "parts": [tool_response(call) for call in calls]})

    def kept(self, content: Json) -> Json:
        """Return a content as the client stores it, without empty texts."""
        parts = [part for part in content.get("parts", ()) if part != {"text": ""}]
        return {**content, "parts": parts}


class ThoughtlessGeminiClient(GeminiClient):
    """A client that shows thoughts but does not store them, like Gemini CLI."""

    def kept(self, content: Json) -> Json:
        kept = super().kept(content)
        return {**kept, "parts": [part for part in kept["parts"] if not part.get("thought")]}


def tool_response(call: Json) -> Json:
    id = {"id": call["id"]} if "id" in call else {}
    return {"functionResponse": {**id, "name": call["name"], "response": {"output": TOOL_OUTPUT}}}


CLIENTS: dict[str, type[Client]] = {
    "openai_chat": ChatClient,
    "openai_responses": ResponsesClient,
    "anthropic": MessagesClient,
    "gemini": GeminiClient,
}

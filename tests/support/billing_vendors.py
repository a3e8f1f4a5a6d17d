"""Wire formats of the billing provider: how it reads requests and reports usage."""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from tests.support.billing_job import Job
from tests.support.strict_provider.stream import event, named_event

Json = dict[str, Any]

MODEL_IN_PATH = re.compile(r".*/models/(?P<model>[^:/]+):(?P<method>\w+)")


def text_field(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def has_tool(body: Json, name: str) -> bool:
    """Return whether the request offers a server tool whose type begins with `name`."""
    tools = body.get("tools")
    return any(
        str(tool.get("type")).startswith(name) or name in tool
        for tool in (tools if isinstance(tools, list) else [])
        if isinstance(tool, dict)
    )


class Vendor(ABC):
    """A wire format of the provider. `prices` is its name in the price list."""

    prices: str

    @abstractmethod
    def read(self, request: web.Request, body: Json) -> Job: ...

    @abstractmethod
    def complete(self, job: Job) -> Json: ...

    @abstractmethod
    def stream(self, job: Job) -> Iterator[bytes]: ...

    def headers(self, job: Job) -> dict[str, str]:
        return {}


class Chat(Vendor):
    prices = "openai"

    def read(self, request: web.Request, body: Json) -> Job:
        return Job(
            model=body["model"],
            streams=body.get("stream") is True,
            output_limits=[body.get("max_completion_tokens"), body.get("max_tokens")],
            choices=body.get("n"),
            tier=openai_tier(body),
        )

    def complete(self, job: Job) -> Json:
        message = {"role": "assistant", "content": "ok"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return {**self.head(job), "object": "chat.completion", "choices": [choice], "usage": self.usage(job)}

    def stream(self, job: Job) -> Iterator[bytes]:
        head = {**self.head(job), "object": "chat.completion.chunk"}
        yield event({**head, "choices": [{"index": 0, "delta": {"content": "ok"}, "finish_reason": None}]})
        yield event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield event({**head, "choices": [], "usage": self.usage(job)})
        yield b"data: [DONE]\n\n"

    def head(self, job: Job) -> Json:
        return {"id": "chatcmpl-1", "created": 1, "model": job.model, "service_tier": job.tier or "default"}

    def usage(self, job: Job) -> Json:
        tokens = job.tokens
        return {
            "prompt_tokens": tokens.prompt,
            "completion_tokens": tokens.output,
            "total_tokens": tokens.prompt + tokens.output,
            "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
        }


class Responses(Vendor):
    prices = "openai"

    def read(self, request: web.Request, body: Json) -> Job:
        return Job(
            model=body["model"],
            streams=body.get("stream") is True,
            output_limits=[body.get("max_output_tokens")],
            tier=openai_tier(body),
            searches=has_tool(body, "web_search"),
        )

    def complete(self, job: Job) -> Json:
        text = {"type": "output_text", "text": "ok", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        tokens = job.tokens
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": job.model,
            "service_tier": job.tier or "default",
            "output": [*self.searches(job), {**message, "content": [text]}],
            "usage": {
                "input_tokens": tokens.prompt,
                "input_tokens_details": {"cached_tokens": tokens.cache_read},
                "output_tokens": tokens.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": tokens.prompt + tokens.output,
            },
        }

    def searches(self, job: Job) -> list[Json]:
        action = {"type": "search", "query": "x"}
        return [
            {"type": "web_search_call", "id": f"ws_{number}", "status": "completed", "action": action}
            for number in range(job.extras.get("web_search", 0))
        ]

    def stream(self, job: Job) -> Iterator[bytes]:
        response = self.complete(job)
        started = {**response, "status": "in_progress", "output": [], "usage": None}
        yield named_event({"type": "response.created", "sequence_number": 0, "response": started})
        for index, item in enumerate(response["output"]):
            data = {"output_index": index, "item": item}
            yield named_event({"type": "response.output_item.done", "sequence_number": index + 1, **data})
        yield named_event({"type": "response.completed", "sequence_number": 99, "response": response})


class Messages(Vendor):
    prices = "anthropic"

    def read(self, request: web.Request, body: Json) -> Job:
        fast = "fast" if text_field(body.get("speed")) == "fast" else ""
        return Job(
            model=body["model"],
            streams=body.get("stream") is True,
            output_limits=[body.get("max_tokens")],
            tier=fast or text_field(body.get("service_tier")),
            # A workspace may be set to a region that costs more.
            region=text_field(body.get("inference_geo")) or "us",
            searches=has_tool(body, "web_search"),
        )

    def complete(self, job: Job) -> Json:
        content = [{"type": "text", "text": "ok"}]
        return {**self.head(job), "content": content, **self.ending(), "usage": self.usage(job)}

    def stream(self, job: Job) -> Iterator[bytes]:
        start = {**self.head(job), "content": [], "usage": {**self.usage(job), "output_tokens": 1}}
        yield named_event({"type": "message_start", "message": start})
        block = {"type": "text", "text": ""}
        yield named_event({"type": "content_block_start", "index": 0, "content_block": block})
        delta = {"type": "text_delta", "text": "ok"}
        yield named_event({"type": "content_block_delta", "index": 0, "delta": delta})
        yield named_event({"type": "content_block_stop", "index": 0})
        yield named_event({"type": "message_delta", "delta": self.ending(), "usage": self.usage(job)})
        yield named_event({"type": "message_stop"})

    def head(self, job: Job) -> Json:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": job.model}

    def ending(self) -> Json:
        return {"stop_reason": "end_turn", "stop_sequence": None}

    def usage(self, job: Job) -> Json:
        tokens = job.tokens
        return {
            "input_tokens": tokens.input,
            "cache_read_input_tokens": tokens.cache_read,
            "cache_creation_input_tokens": 0,
            "output_tokens": tokens.output,
            "service_tier": "standard" if job.has_standard_tier else job.tier,
            "inference_geo": job.region,
            "server_tool_use": {"web_search_requests": job.extras.get("web_search", 0)},
        }


class Gemini(Vendor):
    prices = "google"

    def read(self, request: web.Request, body: Json) -> Job:
        match = MODEL_IN_PATH.fullmatch(request.path)
        assert match is not None
        settings = body.get("generationConfig") or body.get("generation_config") or {}
        return Job(
            model=match["model"],
            streams=match["method"] == "streamGenerateContent",
            output_limits=[settings.get(name) for name in ("maxOutputTokens", "max_output_tokens")],
            choices=settings.get("candidateCount", settings.get("candidate_count")),
            tier=text_field(body.get("serviceTier", body.get("service_tier"))),
            searches=has_tool(body, "googleSearch") or has_tool(body, "google_search"),
        )

    def complete(self, job: Job) -> Json:
        tokens = job.tokens
        content = {"role": "model", "parts": [{"text": "ok"}]}
        candidate: Json = {"index": 0, "content": content, "finishReason": "STOP"}
        if queries := job.extras.get("web_search", 0):
            candidate["groundingMetadata"] = {"webSearchQueries": [f"q{n}" for n in range(queries)]}
        usage = {
            "promptTokenCount": tokens.prompt,
            "cachedContentTokenCount": tokens.cache_read,
            "candidatesTokenCount": tokens.output,
            "totalTokenCount": tokens.prompt + tokens.output,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": job.model}

    def stream(self, job: Job) -> Iterator[bytes]:
        yield event(self.complete(job))

    def headers(self, job: Job) -> dict[str, str]:
        return {"x-gemini-service-tier": job.tier} if job.tier.isascii() and job.tier.isalnum() else {}


def openai_tier(body: Json) -> str:
    """Return the tier. Without one, or with `auto`, the vendor's project decides: it may be `priority`."""
    tier = text_field(body.get("service_tier"))
    return "priority" if tier in ("", "auto") else tier


def vendor_of(path: str) -> Vendor:
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith("/responses"):
        return Responses()
    return Messages() if path.endswith("/messages") else Gemini()

"""Wire formats of the billing provider: how it reads requests and reports usage."""

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from tests.support.billing_job import (
    CACHED,
    IMAGE_INPUT,
    IMAGE_OUTPUT,
    INPUT,
    WRITTEN,
    Job,
    allowed_calls,
)
from tests.support.strict_provider.stream import event, named_event

Json = dict[str, Any]

MODEL_IN_PATH = re.compile(r".*/models/(?P<model>[^:/]+):(?P<method>\w+)")
MEMORY_SIZES = ("1g", "4g", "16g", "64g")
IMAGE_MODEL, IMAGE_MODELS = "gpt-image-2", ("gpt-image-1-mini", "gpt-image-1.5", "gpt-image-1", "gpt-image-2")
"""The default of the image generation tool, and prefixes of names of models with their own prices."""


def text_field(value: object) -> str:
    return value.strip().lower() if isinstance(value, str) else ""


def objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def has_tool(body: Json, name: str) -> bool:
    """Return whether the request offers a server tool whose type begins with `name`."""
    return any(str(tool.get("type")).startswith(name) or name in tool for tool in objects(body.get("tools")))


def find_lifetime(value: object, lifetime: str) -> bool:
    """Return whether a prompt cache breakpoint or option in a request has this lifetime."""
    match value:
        case dict():
            return value.get("ttl") == lifetime or any(find_lifetime(v, lifetime) for v in value.values())
        case list():
            return any(find_lifetime(item, lifetime) for item in value)
        case _:
            return False


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
            is_tier_requested=text_field(body.get("service_tier")) not in ("", "auto"),
            cache_lifetime=openai_lifetime(body),
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
        return {"id": "chatcmpl-1", "created": 1, "model": job.model, **openai_stated_tier(job)}

    def usage(self, job: Job) -> Json:
        return {
            "prompt_tokens": INPUT,
            "completion_tokens": job.output,
            "total_tokens": INPUT + job.output,
            "prompt_tokens_details": openai_details(job),
        }


class Responses(Vendor):
    prices = "openai"

    def read(self, request: web.Request, body: Json) -> Job:
        job = Job(
            model=body["model"],
            streams=body.get("stream") is True,
            output_limits=[body.get("max_output_tokens")],
            tier=openai_tier(body),
            is_tier_requested=text_field(body.get("service_tier")) not in ("", "auto"),
            cache_lifetime=openai_lifetime(body),
        )
        calls = allowed_calls(body.get("max_tool_calls"))
        for tool in objects(body.get("tools")) if calls else ():
            self.use(job, tool, calls)
        return job

    def use(self, job: Job, tool: Json, calls: int) -> None:
        """Call a tool of the request. Calls of containers share one container."""
        match tool:
            case {"type": "image_generation"}:
                job.tools["image_generation"] = 1
                job.image_model = image_model(tool.get("model"))
            case {"type": "code_interpreter"}:
                self.start(job, "code_interpreter", tool.get("container"))
            case {"type": "shell", "environment": {"type": "container_auto"} as place}:
                self.start(job, "shell", place)
            case {"type": str(kind)} if kind.startswith("web_search") or kind == "file_search":
                name = "web_search_preview" if "preview" in kind else kind.partition("_20")[0]
                job.tools[name] = calls

    def start(self, job: Job, tool: str, settings: object) -> None:
        """Start the container of a tool. If the request declares several, it is the largest one."""
        memory = settings.get("memory_limit") if isinstance(settings, dict) else None
        declared = [size for size in MEMORY_SIZES if f"{tool} {size}" in job.tools]
        declared.append(memory if memory in MEMORY_SIZES else "1g")
        for size in MEMORY_SIZES:
            job.tools.pop(f"{tool} {size}", None)
        job.tools[f"{tool} {max(declared, key=MEMORY_SIZES.index)}"] = 1

    def complete(self, job: Job) -> Json:
        text = {"type": "output_text", "text": "ok", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "completed",
            "model": job.model,
            **openai_stated_tier(job),
            **image_usage(job),
            "output": [*self.calls(job), {**message, "content": [text]}],
            "usage": {
                "input_tokens": INPUT,
                "input_tokens_details": openai_details(job),
                "output_tokens": job.output,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": INPUT + job.output,
            },
        }

    def calls(self, job: Job) -> list[Json]:
        """Return the items of all calls. They do not name the memory of their container."""
        return [
            {"id": f"call_{number}", "status": "completed", **call_item(tool)}
            for number, tool in enumerate(job.tools.elements())
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
        fast, region = text_field(body.get("speed")) == "fast", text_field(body.get("inference_geo"))
        tools = objects(body.get("tools"))
        limits = [tool.get("max_uses") for tool in tools if str(tool.get("type")).startswith("web_search")]
        return Job(
            model=body["model"],
            streams=body.get("stream") is True,
            output_limits=[body.get("max_tokens")],
            tier="fast" if fast else text_field(body.get("service_tier")),
            is_tier_requested=fast,
            # A workspace may be set to a region that costs more.
            region=region or "us",
            is_region_requested=region == "us",
            cache_lifetime="1h" if find_lifetime(body, "1h") else "",
            tools=Counter({"web_search": sum(map(allowed_calls, limits))}),
        )

    def complete(self, job: Job) -> Json:
        content = [*self.searches(job), {"type": "text", "text": "ok"}]
        return {**self.head(job), "content": content, **self.ending(), "usage": self.usage(job)}

    def stream(self, job: Job) -> Iterator[bytes]:
        start = {**self.head(job), "content": [], "usage": {**self.usage(job), "output_tokens": 1}}
        yield named_event({"type": "message_start", "message": start})
        blocks = [*self.searches(job), {"type": "text", "text": ""}]
        for index, block in enumerate(blocks):
            yield named_event({"type": "content_block_start", "index": index, "content_block": block})
            if block["type"] == "text":
                delta = {"type": "text_delta", "text": "ok"}
                yield named_event({"type": "content_block_delta", "index": index, "delta": delta})
            yield named_event({"type": "content_block_stop", "index": index})
        yield named_event({"type": "message_delta", "delta": self.ending(), "usage": self.usage(job)})
        yield named_event({"type": "message_stop"})

    def searches(self, job: Job) -> list[Json]:
        search = {"type": "server_tool_use", "name": "web_search", "input": {"query": "x"}}
        return [{**search, "id": f"srvtoolu_{number}"} for number in range(job.tools["web_search"])]

    def head(self, job: Job) -> Json:
        return {"id": "msg_1", "type": "message", "role": "assistant", "model": job.model}

    def ending(self) -> Json:
        return {"stop_reason": "end_turn", "stop_sequence": None}

    def usage(self, job: Job) -> Json:
        """Return the usage. The service tier does not say whether the request ran in fast mode."""
        usage: Json = {
            "input_tokens": INPUT - CACHED - WRITTEN,
            "cache_read_input_tokens": CACHED,
            "cache_creation_input_tokens": WRITTEN,
            "output_tokens": job.output,
            "service_tier": "standard",
        }
        if job.shows_tier:
            usage["speed"] = "fast" if job.tier == "fast" else "standard"
        if job.shows_region:
            usage["inference_geo"] = job.region
        if not job.omits:
            usage["server_tool_use"] = {"web_search_requests": job.tools["web_search"]}
            is_long = job.cache_lifetime == "1h"
            usage["cache_creation"] = {
                "ephemeral_5m_input_tokens": 0 if is_long else WRITTEN,
                "ephemeral_1h_input_tokens": WRITTEN if is_long else 0,
            }
        return usage


class Gemini(Vendor):
    prices = "google"

    def read(self, request: web.Request, body: Json) -> Job:
        match = MODEL_IN_PATH.fullmatch(request.path)
        assert match is not None
        searches = has_tool(body, "googleSearch") or has_tool(body, "google_search")
        settings = body.get("generationConfig") or body.get("generation_config") or {}
        return Job(
            model=match["model"],
            streams=match["method"] == "streamGenerateContent",
            output_limits=[settings.get(name) for name in ("maxOutputTokens", "max_output_tokens")],
            choices=settings.get("candidateCount", settings.get("candidate_count")),
            tier=text_field(body.get("serviceTier", body.get("service_tier"))),
            is_tier_requested=True,
            tools=Counter({"web_search": 2 * int(searches)}),
        )

    def complete(self, job: Job) -> Json:
        content = {"role": "model", "parts": [{"text": "ok"}]}
        candidate: Json = {"index": 0, "content": content, "finishReason": "STOP"}
        if queries := job.tools["web_search"]:
            candidate["groundingMetadata"] = {"webSearchQueries": [f"q{n}" for n in range(queries)]}
        usage = {
            "promptTokenCount": INPUT,
            "cachedContentTokenCount": CACHED,
            "candidatesTokenCount": job.output,
            "totalTokenCount": INPUT + job.output,
        }
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": job.model}

    def stream(self, job: Job) -> Iterator[bytes]:
        yield event(self.complete(job))

    def headers(self, job: Job) -> dict[str, str]:
        is_shown = job.shows_tier and job.tier.isascii() and job.tier.isalnum()
        return {"x-gemini-service-tier": job.tier} if is_shown else {}


def openai_tier(body: Json) -> str:
    """Return the tier.

    For `auto`, or without a tier, assume `priority`, which the vendor's project may set.
    """
    tier = text_field(body.get("service_tier"))
    return "priority" if tier in ("", "auto") else tier


def openai_stated_tier(job: Job) -> Json:
    return {"service_tier": job.tier or "default"} if job.shows_tier else {}


def openai_lifetime(body: Json) -> str:
    return "12h" if find_lifetime(body, "12h") else ""


def openai_details(job: Job) -> Json:
    """Return the details of the input: what was read from the cache and written to it."""
    details: Json = {"cached_tokens": CACHED, "cache_write_tokens": WRITTEN}
    if job.shows_cache_lifetime:
        is_long = job.cache_lifetime == "12h"
        details["cache_write_tokens_details"] = {
            "ttl_30m_tokens": 0 if is_long else WRITTEN,
            "ttl_12h_tokens": WRITTEN if is_long else 0,
        }
    return details


def image_model(name: object) -> str:
    names = [known for known in IMAGE_MODELS if isinstance(name, str) and name.startswith(known)]
    return max(names, key=len) if names else IMAGE_MODEL


def image_usage(job: Job) -> Json:
    if "image_generation" not in job.tools or job.omits:
        return {}
    usage = {"input_tokens": IMAGE_INPUT, "output_tokens": IMAGE_OUTPUT}
    return {"tool_usage": {"image_gen": usage}}


def call_item(tool: str) -> Json:
    """Return the fields of a call that say which tool was called, and in which container."""
    match tool.partition(" ")[0]:
        case "web_search" | "web_search_preview":
            return {"type": "web_search_call", "action": {"type": "search", "query": "x"}}
        case "code_interpreter":
            return {"type": "code_interpreter_call", "container_id": "cntr_1", "code": "1"}
        case "shell":
            place = {"type": "container_reference", "container_id": "cntr_2"}
            return {"type": "shell_call", "environment": place}
        case kind:
            return {"type": f"{kind}_call"}


def vendor_of(path: str) -> Vendor:
    if path.endswith("/chat/completions"):
        return Chat()
    if path.endswith("/responses"):
        return Responses()
    return Messages() if path.endswith("/messages") else Gemini()

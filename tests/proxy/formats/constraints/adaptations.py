"""Adapted requests, for tests of single rules."""

from typing import Any

from proxy.formats.constraints.adaptation import AdaptedRequest, adapt
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Message, Request, Text, Tool

HI = (Message(role="user", parts=(Text(text="Hi"),)),)
OBJECT = {"type": "object", "properties": {}}


def chat(model: str, provider: str = "openai") -> Destination:
    return Destination(provider, "openai_chat", model)


def responses(model: str, provider: str = "openai") -> Destination:
    return Destination(provider, "openai_responses", model)


def claude(model: str = "claude-opus-4-8") -> Destination:
    return Destination("anthropic", "anthropic", model)


def gemini(model: str = "gemini-2.5-flash") -> Destination:
    return Destination("gemini", "gemini", model)


def adapted(destination: Destination, **settings: Any) -> AdaptedRequest:
    """Return a short request with these settings, adapted to the destination."""
    return adapt(Request(**{"model": destination.model, "messages": HI} | settings), destination)


def adapted_schema(destination: Destination, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a tool, adapted to the destination."""
    tool = adapted(destination, tools=(Tool(name="f", schema=schema),)).request.tools[0]
    assert isinstance(tool, Tool) and tool.schema is not None
    return tool.schema

"""Vendors and models whose rules differ, as destinations of requests."""

from proxy.formats.codec import RenderedRequest
from proxy.formats.constraints.constraint import Destination
from proxy.formats.neutral import Request
from proxy.providers.catalog import PROVIDERS
from tests.support.adapted_requests import render_adapted

MODELS = {
    ("openai", "openai_chat"): "gpt-4o gpt-4 o3-mini gpt-5 gpt-5.1 gpt-5.4 gpt-5.6-sol gpt-6-luna",
    ("openai", "openai_responses"): "gpt-4o o3 gpt-5-pro gpt-5.2 gpt-6-astra gpt-6 gpt-6.2-sol",
    ("azure", "openai_chat"): "gpt-4o gpt-5",
    ("groq", "openai_chat"): "llama-3.3-70b-versatile openai/gpt-oss-120b",
    ("mistral", "openai_chat"): "mistral-large-latest mistral-small-latest",
    ("cerebras", "openai_chat"): "gpt-oss-120b llama3.1-8b",
    ("fireworks", "openai_chat"): "accounts/fireworks/models/kimi-k2",
    ("deepseek", "openai_chat"): "deepseek-v4-pro",
    ("deepseek", "anthropic"): "deepseek-v4-pro",
    ("xai", "openai_chat"): "grok-4.5 grok-4",
    ("xai", "openai_responses"): "grok-4.3",
    ("together", "openai_chat"): "llama",
    ("openrouter", "openai_chat"): "anthropic/claude-sonnet-4.5 mistralai/devstral-2512",
    ("compatible", "openai_chat"): "local-model kimi-k2.5 gemini-3-pro-preview",
    ("perplexity", "openai_responses"): "sonar",
    ("anthropic", "anthropic"): "claude-3-haiku-20240307 claude-3-7-sonnet-latest claude-sonnet-4-5 "
    "claude-opus-4-1 claude-opus-4-8 claude-opus-5-5 claude-sonnet-5-5 claude-haiku-5-5 claude-fable-5-1",
    ("gemini", "gemini"): "gemini-2.0-flash gemini-2.5-flash gemini-2.5-pro gemini-3-pro-preview "
    "gemini-3.8-flash gemini-4-argon gemini-flash-latest",
}
DESTINATIONS = [
    Destination(provider, format, model)
    for (provider, format), models in MODELS.items()
    for model in models.split()
]


def label(destination: Destination) -> str:
    return f"{destination.provider} {destination.format} {destination.model}"


def render_for(request: Request, destination: Destination) -> RenderedRequest:
    """Render a request for a vendor, with the quirks in the vendor's row of the catalog."""
    return render_adapted(request, destination, PROVIDERS[destination.provider].quirks)

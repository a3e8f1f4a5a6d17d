"""Provider credentials, routes, stored requests and responses, issued ids, and the prompt log."""

from proxy.models.background_responses import BackgroundResponse, BackgroundResponseQuerySet
from proxy.models.credentials import Credential
from proxy.models.idempotent_requests import IdempotentRequest
from proxy.models.issued_ids import IssuedId, IssuedIdQuerySet
from proxy.models.prompt_log import (
    PromptLogEntry,
    PromptLogMode,
    PromptLogSettings,
    PromptLogUser,
    RedactionRule,
)
from proxy.models.routes import Route

__all__ = [
    "BackgroundResponse",
    "BackgroundResponseQuerySet",
    "Credential",
    "IdempotentRequest",
    "IssuedId",
    "IssuedIdQuerySet",
    "PromptLogEntry",
    "PromptLogMode",
    "PromptLogSettings",
    "PromptLogUser",
    "RedactionRule",
    "Route",
]

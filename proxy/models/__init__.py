"""Provider credentials, idempotent requests, background responses, and ids that providers issued."""

from proxy.models.background_responses import BackgroundResponse, BackgroundResponseQuerySet
from proxy.models.credentials import Credential
from proxy.models.idempotent_requests import IdempotentRequest
from proxy.models.issued_ids import IssuedId, IssuedIdQuerySet

__all__ = [
    "BackgroundResponse",
    "BackgroundResponseQuerySet",
    "Credential",
    "IdempotentRequest",
    "IssuedId",
    "IssuedIdQuerySet",
]

"""Provider credentials, routes, idempotent requests, background responses, and issued ids."""

from proxy.models.background_responses import BackgroundResponse, BackgroundResponseQuerySet
from proxy.models.credentials import Credential
from proxy.models.idempotent_requests import IdempotentRequest
from proxy.models.issued_ids import IssuedId, IssuedIdQuerySet
from proxy.models.routes import Route

__all__ = [
    "BackgroundResponse",
    "BackgroundResponseQuerySet",
    "Credential",
    "IdempotentRequest",
    "IssuedId",
    "IssuedIdQuerySet",
    "Route",
]

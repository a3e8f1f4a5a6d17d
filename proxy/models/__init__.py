"""Credentials for providers, requests with an Idempotency-Key, and ids that providers issued."""

from proxy.models.credentials import Credential
from proxy.models.idempotent_requests import IdempotentRequest
from proxy.models.issued_ids import IssuedId, IssuedIdQuerySet

__all__ = ["Credential", "IdempotentRequest", "IssuedId", "IssuedIdQuerySet"]

"""Ids of the calls in an answer: providers leave them out, and some repeat them; a client must tell its calls apart."""

from uuid import uuid4


def unique_call_id(reported_id: str, used_ids: set[str]) -> str:
    """The provider's id, or one of ours where it gives none or gives it twice."""
    made = reported_id if reported_id and reported_id not in used_ids else f"call_{uuid4().hex[:24]}"
    used_ids.add(made)
    return made

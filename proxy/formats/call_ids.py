"""Ids of the calls in an answer: providers leave them out, and some repeat them; a client must tell its calls apart."""

from uuid import uuid4


def fresh_call_id(given: str, seen: set[str]) -> str:
    """The provider's id, or one of ours where it gives none or gives it twice."""
    made = given if given and given not in seen else f"call_{uuid4().hex[:24]}"
    seen.add(made)
    return made

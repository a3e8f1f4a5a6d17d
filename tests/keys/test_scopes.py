"""Scopes: how they are parsed and what they allow."""

import pytest

from keys.scopes import ADMIN, ALL, ALL_SCOPES, OPERATIONS, UnknownScope, allows, parse

CHAT = "post:/openai/v1/chat/completions"


@pytest.mark.parametrize(
    "text", ["inference,usage:read", "usage:read inference", " INFERENCE,  usage:read,inference "]
)
def test_it_parses_lists_in_any_order_and_case(text: str) -> None:
    assert parse(text) == ["inference", "usage:read"]


def test_every_scope_is_parsed() -> None:
    assert parse(", ".join(ALL_SCOPES)) == list(ALL_SCOPES)


@pytest.mark.parametrize("text", ["", " , ", "everything", "all,everything", "post:/openai/v1/images"])
def test_it_rejects_unknown_scopes_and_names_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownScope, match="inference"):
        parse(text)


@pytest.mark.parametrize("operation", [*OPERATIONS, "inference", "usage:read"])
def test_all_covers_what_applications_do(operation: str) -> None:
    assert allows([ALL], operation)


@pytest.mark.parametrize("operation", ["logs:read", "keys:manage", "project:manage", ADMIN])
def test_all_does_not_cover_the_management(operation: str) -> None:
    assert not allows([ALL], operation)
    assert not allows([ALL, "keys:manage"], ADMIN)


@pytest.mark.parametrize("operation", ALL_SCOPES)
def test_admin_covers_everything(operation: str) -> None:
    assert allows([ADMIN], operation)


def test_a_group_covers_its_operations_and_no_others() -> None:
    assert allows(["inference"], CHAT)
    assert not allows(["usage:read", "keys:manage"], CHAT)
    assert not allows(["inference"], "keys:manage")


def test_an_operation_covers_only_itself() -> None:
    assert allows([CHAT], CHAT)
    assert not allows([CHAT], "post:/openai/v1/embeddings")
    assert not allows([CHAT], "inference")


@pytest.mark.parametrize("granted", [[], ["al"], ["post:/openai/v1/chat"]])
def test_unknown_scopes_allow_nothing(granted: list[str]) -> None:
    assert not allows(granted, CHAT)
    assert not allows(granted, "post:/no/such/operation")

"""What a key may do."""

import pytest

from keys.scopes import ALL, ALL_SCOPES, GROUPS, OPERATIONS, UnknownScope, allows, parse

CHAT = "post:/openai/v1/chat/completions"


@pytest.mark.parametrize(
    "text", ["inference,usage:read", "usage:read inference", " INFERENCE,  usage:read,inference "]
)
def test_it_reads_lists_in_any_order_and_case(text: str) -> None:
    assert parse(text) == ["inference", "usage:read"]


def test_every_known_scope_is_read_back() -> None:
    assert parse(", ".join(ALL_SCOPES)) == list(ALL_SCOPES)


@pytest.mark.parametrize("text", ["", " , ", "everything", "all,everything", "post:/openai/v1/images"])
def test_it_rejects_unknown_and_empty_scopes_and_names_the_known_ones(text: str) -> None:
    with pytest.raises(UnknownScope, match="inference"):
        parse(text)


@pytest.mark.parametrize("operation", [*OPERATIONS, *GROUPS])
def test_all_covers_everything(operation: str) -> None:
    assert allows([ALL], operation)


def test_a_group_covers_its_operations_and_no_others() -> None:
    assert allows(["inference"], CHAT)
    assert not allows(["usage:read", "keys:manage"], CHAT)
    assert not allows(["inference"], "keys:manage")


def test_one_operation_covers_itself_alone() -> None:
    assert allows([CHAT], CHAT)
    assert not allows([CHAT], "post:/openai/v1/embeddings")
    assert not allows([CHAT], "inference")


@pytest.mark.parametrize("held", [[], ["al"], ["post:/openai/v1/chat"]])
def test_nothing_is_allowed_by_accident(held: list[str]) -> None:
    assert not allows(held, CHAT)
    assert not allows(held, "post:/no/such/operation")

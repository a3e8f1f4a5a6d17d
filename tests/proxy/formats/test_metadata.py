"""Metadata of requests: tags in the body and the header, end users, and the header of the prompt log."""

from typing import Any

import pytest

from proxy.formats.metadata import NO_METADATA, read_metadata
from proxy.formats.neutral import InvalidRequest


def tags_of(header: str = "", **metadata: Any) -> dict[str, str]:
    return dict(read_metadata({"metadata": metadata}, header.encode(), "").tags)


@pytest.mark.parametrize(
    "header", ['{"team": "search", "env": "test"}', "team=search,env=test", " team = search , env=test, "]
)
def test_tags_are_read_from_the_header(header: str) -> None:
    assert tags_of(header) == {"team": "search", "env": "test"}


def test_a_tag_of_the_header_replaces_one_of_the_body() -> None:
    assert tags_of("team=search", team="ads", env="test") == {"team": "search", "env": "test"}


def test_values_of_the_body_that_are_not_tags_are_ignored() -> None:
    metadata: dict[str, Any] = {"team": "search", "count": 3, "nested": {"a": "b"}}
    metadata |= {"n" * 65: "x", "long": "x" * 513, "": "x"}
    assert tags_of(**metadata, line="a\nb") == {"team": "search"}


def test_a_body_has_at_most_16_tags_beside_those_of_the_header() -> None:
    tags = tags_of("team=search", **{f"tag{number}": "x" for number in range(20)})
    assert len(tags) == 16 and tags["team"] == "search"


@pytest.mark.parametrize(
    "header",
    [
        "team",
        "=search",
        '{"team": 3}',
        '{"team": "search"',
        "team=" + "x" * 513,
        "t" * 65 + "=x",
        ",".join(f"tag{number}=x" for number in range(17)),
    ],
)
def test_a_malformed_header_is_rejected(header: str) -> None:
    with pytest.raises(InvalidRequest, match="x-gateway-metadata"):
        read_metadata({}, header.encode(), "")


def test_invalid_utf8_in_the_header_is_rejected() -> None:
    with pytest.raises(InvalidRequest):
        read_metadata({}, b"team=\xff", "")


def test_end_users_are_named_by_each_vendors_field_and_are_not_tags() -> None:
    fields = {"user": "u1", "safety_identifier": "u2", "metadata": {"user_id": "u3", "team": "search"}}
    metadata = read_metadata(fields, b"user_id=u1", "")
    assert metadata.end_users == ("u1", "u2", "u3")
    assert metadata.tags == {"team": "search"}


@pytest.mark.parametrize(("value", "is_logged"), [("", True), ("on", True), ("off", False), (" OFF ", False)])
def test_the_log_header_keeps_a_body_out_of_the_log(value: str, is_logged: bool) -> None:
    assert read_metadata({}, b"", value).is_logged == is_logged


def test_an_unknown_value_of_the_log_header_is_rejected() -> None:
    with pytest.raises(InvalidRequest, match="on or off"):
        read_metadata({}, b"", "none")


def test_a_request_without_metadata_needs_no_work() -> None:
    assert read_metadata({"model": "m"}, b"", "") is NO_METADATA

"""Log lines are JSON objects without API keys in them."""

import json
import logging
import re

import pytest

from gateway_project import logging as logs
from keys import tokens

KEY = f"{tokens.PREFIX}abcdefghijkl_0123456789"


@pytest.mark.parametrize(
    "event",
    [
        {"model": KEY},
        {"model": f"openai/{KEY}"},
        {"message": f"GET /v1/models?key={KEY}&a=b\n{KEY}"},
        {KEY: 1},
        {"nested": [{"deep": f"“{KEY}”"}]},
        {"object": ValueError(KEY)},
    ],
)
def test_a_key_is_redacted_in_every_field(event: dict[str, object]) -> None:
    line = logs.encode(event).decode()
    assert "abcdefghijkl" not in line and "0123456789" not in line
    assert "sk-gw_…" in line and json.loads(line)


def test_text_around_a_key_stays() -> None:
    assert json.loads(logs.encode({"a": f"x {KEY}, y", "b": 5})) == {"a": "x sk-gw_…, y", "b": 5}


def test_lines_of_libraries_are_redacted_too() -> None:
    record = logging.LogRecord("celery", logging.ERROR, "a.py", 1, "refused %s", (KEY,), None)
    assert json.loads(logs.JsonFormatter().format(record))["message"] == "refused sk-gw_…"


def test_an_event_has_a_stable_name_beside_its_message() -> None:
    fields = {
        "timestamp": "t",
        "level": "info",
        "event": "key_revoked",
        "message": "The key was revoked.",
        "key": "a",
    }
    assert logs.order_fields(None, "", fields) == {
        "timestamp": "t",
        "level": "info",
        "message": "The key was revoked.",
        "event": "key_revoked",
        "key": "a",
    }


def test_an_event_without_a_message_has_its_name_as_message() -> None:
    entry = logs.order_fields(None, "", {"timestamp": "t", "level": "info", "event": "operator_route"})
    assert entry["message"] == entry["event"] == "operator_route"


def test_a_timestamp_has_milliseconds_and_the_zone() -> None:
    stamp = logs.add_timestamp(None, "", {})["timestamp"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)

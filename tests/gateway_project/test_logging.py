"""Log lines are JSON objects without API keys in them."""

import json
import logging

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
def test_a_key_is_redacted_wherever_it_stands(event: dict[str, object]) -> None:
    line = logs.encode(event).decode()
    assert "abcdefghijkl" not in line and "0123456789" not in line
    assert "sk-gw_…" in line and json.loads(line)


def test_what_stands_around_a_key_stays() -> None:
    assert json.loads(logs.encode({"a": f"x {KEY}, y", "b": 5})) == {"a": "x sk-gw_…, y", "b": 5}


def test_lines_of_libraries_are_redacted_too() -> None:
    record = logging.LogRecord("celery", logging.ERROR, "a.py", 1, "refused %s", (KEY,), None)
    assert json.loads(logs.JsonFormatter().format(record))["message"] == "refused sk-gw_…"

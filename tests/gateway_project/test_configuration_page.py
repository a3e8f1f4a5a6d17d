"""The table of variables in the documentation comes from the settings code."""

from gateway_project.env.variables import Variables
from tests.gateway_project.configuration_page import PAGE, docstrings, page, shown


def test_the_table_is_current() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run python -m tests.gateway_project.configuration_page"


def test_every_variable_has_a_description() -> None:
    assert [name for name in Variables.model_fields if not docstrings().get(name)] == []


def test_defaults_are_shown_as_they_are_written() -> None:
    assert [shown(value) for value in (True, "on", 60, 0.5, None, "", ())] == [
        *("`true`", "`on`", "60", "0.5"),
        *("", "", ""),
    ]

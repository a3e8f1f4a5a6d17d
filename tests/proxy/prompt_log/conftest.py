from collections.abc import Callable

import pytest


@pytest.fixture
def prompt_log(change_environment: Callable[..., None]) -> None:
    """Turn the prompt log on, as it is by default outside of tests."""
    change_environment(ai_gateway_prompt_logging=True)

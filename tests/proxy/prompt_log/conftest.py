from collections.abc import Callable

import pytest

from proxy.prompt_log import writer


@pytest.fixture
def prompt_log(change_environment: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn the prompt log on, as it is by default outside of tests, and write it at once."""
    monkeypatch.setattr(writer, "FLUSH_INTERVAL_S", 0.02)
    change_environment(ai_gateway_prompt_logging=True)

"""Accounts and models of the operator, at the local upstream, for the running gateway."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings

from proxy.routing import accounts, config_file


@contextmanager
def operator_accounts(root: str, config: Path) -> Iterator[None]:
    """Let the operator have accounts of Anthropic and Gemini at `root`, and the models of `config`."""
    variables = {
        "anthropic_base_url": root,
        "anthropic_api_key": "sk-anthropic",
        "gemini_base_url": root,
        "gemini_api_key": "sk-gemini",
        "ai_gateway_config": config,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "ENV", settings.ENV.model_copy(update=variables))
        forget_configuration()
        yield
    forget_configuration()


def forget_configuration() -> None:
    config_file.load.cache_clear()
    accounts.load_operator_accounts.cache_clear()

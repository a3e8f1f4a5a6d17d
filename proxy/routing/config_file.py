"""The operator's routing configuration: AI_GATEWAY_CONFIG (a YAML file) and AI_GATEWAY_MODEL_ROUTES."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import msgspec
from django.conf import settings

from proxy.providers import base_urls
from proxy.providers.catalog import DEMO, PROVIDERS
from proxy.routing.operator_keys import DEFAULT_UPSTREAMS, default_upstream, origin_of

DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
SECONDS_PER_UNIT = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
DEFAULT_TIMEOUT_S = 300.0


class ConfigError(Exception):
    """The file or the variable is not valid. The message says where, and why."""


class ModelRoute(msgspec.Struct, frozen=True):
    """An entry of `models` in the YAML file."""

    name: str
    provider: str
    description: str = ""
    api: Literal["", "chat", "responses"] = ""
    """The OpenAI API that serves the model.

    It is `chat` if the server has only chat completions, and `responses` if requests are to be converted to
    the Responses API.
    """
    base_url: str = ""
    """The URL of the model, which replaces the URL of the operator's account at the provider."""
    send_operator_key: bool = False
    """Whether to send the operator's key to `base_url`, even if its host is not the provider's."""


class OperatorConfig(msgspec.Struct, frozen=True):
    """The contents of the YAML file.

    `timeout` is the time for which a provider may send nothing, such as `90s` or `5m`.
    """

    version: str | float | int = "1.0"
    models: tuple[ModelRoute, ...] = ()
    default_provider: str = ""
    timeout: str | float | int = DEFAULT_TIMEOUT_S
    model_urls: dict[str, str] = {}
    models_by_name: dict[str, ModelRoute] = {}

    @property
    def timeout_s(self) -> float:
        """Return the timeout in seconds."""
        return parse_duration(self.timeout)


@lru_cache(maxsize=1)
def load() -> OperatorConfig:
    """Return the configuration, which a process reads only once. Raises ConfigError."""
    env = settings.ENV
    config = read_file(env.ai_gateway_config) if env.ai_gateway_config else OperatorConfig()
    for name in [*(model.provider for model in config.models), config.default_provider]:
        if name and name not in PROVIDERS:
            raise ConfigError(
                f"{env.ai_gateway_config}: unknown provider {name!r}; known: {', '.join(PROVIDERS)}"
            )
    parse_duration(config.timeout)
    check_default_upstreams()
    for model in config.models:
        check_route(model, str(env.ai_gateway_config))
    routes = parse_model_urls(env.ai_gateway_model_routes)
    if unknown := set(env.ai_gateway_send_operator_key) - routes.keys():
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"AI_GATEWAY_SEND_OPERATOR_KEY: AI_GATEWAY_MODEL_ROUTES has no model {names}")
    by_name = {model.name: model for model in config.models}
    return msgspec.structs.replace(config, model_urls=routes, models_by_name=by_name)


def check_default_upstreams() -> None:
    """Validate the base URLs in the environment. Raises ConfigError."""
    for provider in DEFAULT_UPSTREAMS:
        if base_url := default_upstream(provider):
            check_base_url(base_url, f"the environment: {provider}: the base URL")


def check_route(model: ModelRoute, file: str) -> None:
    """Raise ConfigError if the URL or the key setting of a route cannot work."""
    if model.base_url and model.provider == DEMO:
        raise ConfigError(f"{file}: {model.name!r}: the demo has no base_url")
    if model.base_url:
        where = f"{file}: {model.name!r}: base_url"
        check_base_url(model.base_url, where)
        try:
            base_urls.check_base_url(PROVIDERS[model.provider], model.base_url)
        except base_urls.UnusableBaseURL as error:
            raise ConfigError(f"{where}: {error}") from None
    if model.send_operator_key and not model.base_url:
        raise ConfigError(f"{file}: {model.name!r}: send_operator_key needs a base_url")


def check_base_url(base_url: str, where: str) -> None:
    """Raise ConfigError for an invalid URL. The message omits the URL, which may contain a password."""
    try:
        origin_of(base_url)
    except ValueError:
        raise ConfigError(f"{where} is not a valid http or https address") from None


def read_file(path: Path) -> OperatorConfig:
    """Return the contents of the YAML file. Raises ConfigError."""
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=OperatorConfig)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_model_urls(text: str) -> dict[str, str]:
    """Parse `model:http://host/v1,model2:https://...`.

    Each entry is split at the last `:http`, because names may contain colons.
    """
    routes = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, colon, address = entry.rpartition(":http")
        if not name or not colon:
            raise ConfigError(f"AI_GATEWAY_MODEL_ROUTES: {entry!r} is not model:http(s)://address")
        routes[name] = f"http{address}".rstrip("/")
        check_base_url(routes[name], f"AI_GATEWAY_MODEL_ROUTES: the address of {name!r}")
    return routes


def parse_duration(value: str | float | int) -> float:
    """Return a duration in seconds. Raises ConfigError."""
    if not isinstance(value, str):
        return float(value)
    parts = DURATION_PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value or not parts:
        raise ConfigError(f"timeout: {value!r} is not a duration such as 90s or 5m")
    return sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts)

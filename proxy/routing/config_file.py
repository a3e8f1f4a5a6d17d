"""The operator's routing configuration: AI_GATEWAY_CONFIG (a YAML file) and AI_GATEWAY_MODEL_ROUTES."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import msgspec
from django.conf import settings

from proxy.formats.quirks import Quirks
from proxy.models.route_definitions import (
    ANY_REQUEST,
    RetryAttempts,
    RetryDelay,
    RouteDefinition,
    RuleDefinition,
    Strategy,
    TargetDefinition,
    parse_duration,
)
from proxy.providers import base_urls
from proxy.providers.catalog import COMPATIBLE, DEMO, PROVIDERS
from proxy.routing.config_keys import names_of, unknown_names
from proxy.routing.operator_keys import DEFAULT_UPSTREAMS, default_upstream, origin_of

DEFAULT_TIMEOUT_S = 300.0
VARIABLE_MARK = "$"
"""A value of `api_key` that begins with this mark names the environment variable that contains the key."""

Api = Literal["", "chat", "responses"]
"""The OpenAI API of a server.

It is `chat` if the server has only chat completions, and `responses` if requests are to be converted to the
Responses API.
"""
FormatName = Literal["openai_chat", "openai_responses", "anthropic", "gemini"]


class ConfigError(Exception):
    """The file or the variable is not valid. The message says where, and why."""


class ModelRoute(msgspec.Struct, frozen=True):
    """An entry of `models` in the YAML file: a model at one provider, or a route with targets.

    `model` is the model's name at the provider; if it is empty, it is `name`. `base_url` replaces the URL of
    the operator's account at the provider. `send_operator_key` sends the operator's key to it, even if its
    host is not the provider's. With `has_listed_price: false`, a model at a `base_url` does not have the
    price that its vendor lists for its name.
    """

    name: str
    provider: str = ""
    model: str = ""
    description: str = ""
    api: Api = ""
    base_url: str = ""
    send_operator_key: bool = False
    has_listed_price: bool = True
    targets: tuple[TargetDefinition, ...] = ()
    fallbacks: tuple[str, ...] = ()
    strategy: Strategy = "ordered"
    rule: RuleDefinition = ANY_REQUEST
    retry_attempts: RetryAttempts | None = None
    retry_delay_ms: RetryDelay | None = None
    retries_context_length: bool = False

    def __post_init__(self) -> None:
        if bool(self.provider) == bool(self.targets):
            raise ValueError("a model has either a provider or targets")
        if self.base_url and self.rule != ANY_REQUEST:
            raise ValueError("a model with a base_url has no rule; name an account of `accounts` as target")

    @property
    def definition(self) -> RouteDefinition:
        """Return the route that serves the model."""
        own = (TargetDefinition(self.provider, self.model),) if self.provider else self.targets
        return RouteDefinition(
            self.name,
            own,
            self.fallbacks,
            self.strategy,
            self.rule,
            self.retry_attempts,
            self.retry_delay_ms,
            self.retries_context_length,
        )


class AccountDefinition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of `accounts` in the YAML file: an account of the operator at a provider or a server.

    `models` can be called without the prefix `name/`. `formats` are the formats of the server, of which
    conversions prefer the first one. `quirks` replaces the fields of `Quirks` that it names.
    """

    name: str
    provider: str = COMPATIBLE
    base_url: str = ""
    api_key: str = ""
    models: tuple[str, ...] = ()
    formats: tuple[FormatName, ...] = ()
    api: Api = ""
    api_version: str = ""
    quirks: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS or self.provider == DEMO:
            raise ValueError(f"unknown provider {self.provider!r}")
        if not self.name or "/" in self.name or self.name in PROVIDERS.keys() - {self.provider}:
            raise ValueError(f"{self.name!r} cannot be the name of an account at {self.provider}")
        if not (self.base_url or PROVIDERS[self.provider].base_url):
            raise ValueError(f"the account {self.name!r} needs a base_url")
        self.replaced_quirks(Quirks())

    @property
    def target(self) -> TargetDefinition:
        """Return the target for the models of the account."""
        return TargetDefinition(self.name)

    @property
    def key_source(self) -> str | None:
        """Return the variable that contains the key, or AI_GATEWAY_CONFIG if the file does; else None."""
        if self.api_key.startswith(VARIABLE_MARK):
            return self.api_key.removeprefix(VARIABLE_MARK)
        return "AI_GATEWAY_CONFIG" if self.api_key else None

    def replaced_quirks(self, quirks: Quirks) -> Quirks:
        """Return the quirks of the provider with the changes of this account. Raises ValueError."""
        own = {name: getattr(quirks, name) for name in Quirks.__dataclass_fields__}
        if unknown := self.quirks.keys() - own.keys():
            raise ValueError(f"unknown quirks: {', '.join(sorted(unknown))}; known: {', '.join(own)}")
        return msgspec.convert(own | self.quirks, Quirks, from_attributes=True)

    def secret(self) -> str:
        """Return the API key. Raises ConfigError if its variable is not set."""
        if not self.api_key.startswith(VARIABLE_MARK):
            return self.api_key
        name = self.api_key.removeprefix(VARIABLE_MARK)
        if value := settings.ENV.variable(name):
            return str(value)
        raise ConfigError(f"the account {self.name!r} needs the variable {name}, which is not set")


FILE_NAMES = ("version", "accounts", "models", "default_provider", "timeout")
"""The names at the top of the YAML file."""


class OperatorConfig(msgspec.Struct, frozen=True):
    """The contents of the YAML file.

    `timeout` is the time for which a provider may send nothing, such as `90s` or `5m`.
    """

    version: str | float | int = "1.0"
    accounts: tuple[AccountDefinition, ...] = ()
    models: tuple[ModelRoute, ...] = ()
    default_provider: str = ""
    timeout: str | float | int = DEFAULT_TIMEOUT_S
    model_urls: dict[str, str] = {}
    models_by_name: dict[str, ModelRoute] = {}
    """The last model of each name, which is the one without a rule, if there is one."""

    @property
    def timeout_s(self) -> float:
        """Return the timeout in seconds."""
        return parse_duration(self.timeout)

    def has_model(self, name: str) -> bool:
        """Return whether the operator has configured a model with this name."""
        return name in self.models_by_name or name in self.model_urls


@lru_cache(maxsize=1)
def load() -> OperatorConfig:
    """Return the configuration, which a process reads only once. Raises ConfigError."""
    env = settings.ENV
    config = read_file(env.ai_gateway_config) if env.ai_gateway_config else OperatorConfig()
    file = str(env.ai_gateway_config)
    check_config(config, file)
    routes = parse_model_urls(env.ai_gateway_model_routes)
    if unknown := set(env.ai_gateway_send_operator_key) - routes.keys():
        names = ", ".join(sorted(unknown))
        raise ConfigError(f"AI_GATEWAY_SEND_OPERATOR_KEY: AI_GATEWAY_MODEL_ROUTES has no model {names}")
    models = tuple(sorted(config.models, key=lambda model: model.rule == ANY_REQUEST))
    by_name = {model.name: model for model in models}
    return msgspec.structs.replace(config, models=models, model_urls=routes, models_by_name=by_name)


def check_config(config: OperatorConfig, file: str) -> None:
    """Raise ConfigError with all problems of a file whose names and types are valid, one a line."""
    checks: tuple[Callable[[], None], ...] = (
        partial(check_provider_names, config, file),
        partial(check_timeout, config, file),
        check_default_upstreams,
        *(partial(check_account, account, file) for account in config.accounts),
        *(partial(check_route, model, file) for model in config.models),
        partial(check_model_names, config, file),
    )
    if problems := [problem for check in checks if (problem := problem_of(check))]:
        raise ConfigError("\n".join(problems))


def problem_of(check: Callable[[], None]) -> str:
    try:
        check()
    except ConfigError as error:
        return str(error)
    return ""


def check_provider_names(config: OperatorConfig, file: str) -> None:
    """Raise ConfigError for a name that is neither a provider nor an account, or for two equal accounts."""
    accounts = [account.name for account in config.accounts]
    if repeated := {name for name in accounts if accounts.count(name) > 1}:
        raise ConfigError(f"{file}: several accounts are named {', '.join(sorted(repeated))}")
    known = [*PROVIDERS, *(name for name in accounts if name not in PROVIDERS)]
    targets = [target.provider for model in config.models for target in model.definition.targets]
    for name in [*targets, config.default_provider]:
        if name and name not in known:
            raise ConfigError(f"{file}: unknown provider {name!r}; known: {', '.join(known)}")


def check_model_names(config: OperatorConfig, file: str) -> None:
    """Raise ConfigError if several models have the same name, and one could never serve a request.

    Models with the same name need different rules. One of them may have no rule, and serves the remaining
    requests.
    """
    for name, count in Counter(model.name for model in config.models).items():
        same = [model for model in config.models if model.name == name]
        if count > 1 and any(model.base_url for model in same):
            raise ConfigError(f"{file}: several models are named {name!r}, and one of them has a base_url")
        if any(one.rule == other.rule for one, other in combinations(same, 2)):
            raise ConfigError(f"{file}: several models are named {name!r} and have the same rule, or none")


def check_timeout(config: OperatorConfig, file: str) -> None:
    try:
        if parse_duration(config.timeout) <= 0:
            raise ConfigError("it must be more than 0")
    except ValueError as error:
        raise ConfigError(f"{file}: timeout: {error}") from None


def check_account(account: AccountDefinition, file: str) -> None:
    """Raise ConfigError if the URL or the key of an account cannot work."""
    try:
        account.secret()
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    if account.base_url:
        check_provider_url(
            account.provider, account.base_url, f"{file}: the account {account.name!r}: base_url"
        )


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
        if model.provider not in PROVIDERS:
            raise ConfigError(f"{file}: {model.name!r}: base_url needs a provider of the catalog")
        check_provider_url(model.provider, model.base_url, f"{file}: {model.name!r}: base_url")
    if model.send_operator_key and not model.base_url:
        raise ConfigError(f"{file}: {model.name!r}: send_operator_key needs a base_url")


def check_provider_url(provider: str, base_url: str, where: str) -> None:
    """Raise ConfigError for an invalid URL, or for one that cannot work with the provider."""
    check_base_url(base_url, where)
    try:
        base_urls.check_base_url(PROVIDERS[provider], base_url)
    except base_urls.UnusableBaseURL as error:
        raise ConfigError(f"{where}: {error}") from None


def check_base_url(base_url: str, where: str) -> None:
    """Raise ConfigError for an invalid URL. The message omits the URL, which may contain a password."""
    try:
        origin_of(base_url)
    except ValueError:
        raise ConfigError(f"{where} is not a valid http or https address") from None


def read_file(path: Path) -> OperatorConfig:
    """Return the contents of the YAML file. Raises ConfigError with all names that are not known."""
    try:
        text = path.read_text()
        if problems := unknown_names(text, FILE_NAMES, names_of(AccountDefinition), names_of(ModelRoute)):
            raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems))
        return msgspec.yaml.decode(text, type=OperatorConfig)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
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

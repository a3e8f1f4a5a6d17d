"""Routes of the operator: models with their own URLs, and the key that each URL receives."""

from dataclasses import dataclass

import structlog
from django.conf import settings

from proxy.providers.catalog import COMPATIBLE, OPENAI, PROVIDERS
from proxy.routing import config_file
from proxy.routing.config_file import OperatorConfig
from proxy.routing.operator_keys import (
    DEFAULT_UPSTREAMS,
    OperatorKey,
    configured_key,
    default_upstream,
    is_providers_own,
    key_for,
    origin_of,
)

FILE, VARIABLE = "AI_GATEWAY_CONFIG", "AI_GATEWAY_MODEL_ROUTES"
ROUTE_MESSAGE = "The operator has configured where this model is served."

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Route:
    """A model at a URL, and the operator's key for the URL.

    `priced_as` is the name under which the model may have a listed price; empty if it has none at this URL.
    """

    model: str
    provider: str
    base_url: str
    key: OperatorKey
    source: str
    priced_as: str


def yaml_routes(config: OperatorConfig) -> list[Route]:
    """Return the models of the YAML file that have a URL of their own."""
    return [
        Route(
            model.name,
            model.provider,
            model.base_url,
            key_for(model.provider, model.base_url, requested=model.send_operator_key),
            FILE,
            (model.model or model.name) if model.has_listed_price else "",
        )
        for model in config.models
        if model.base_url
    ]


def environment_routes(config: OperatorConfig) -> list[Route]:
    """Return the entries of AI_GATEWAY_MODEL_ROUTES. Each is a model at an OpenAI-compatible URL."""
    requested = settings.ENV.ai_gateway_send_operator_key
    return [
        Route(
            model,
            OPENAI if is_providers_own(OPENAI, base_url) else COMPATIBLE,
            base_url,
            key_for(OPENAI, base_url, requested=model in requested),
            VARIABLE,
            model,
        )
        for model, base_url in config.model_urls.items()
    ]


def log_routes() -> None:
    """Log the host of each model route and the variable of the key that is sent there, never the key."""
    config = config_file.load()
    for provider in DEFAULT_UPSTREAMS:
        if default_upstream(provider) or configured_key(provider)[1]:
            log.info(
                "operator_account",
                message="The operator has an account at this provider.",
                provider=provider,
                **default_destination(provider),
            )
    for account in config.accounts:
        log.info(
            "operator_account",
            message="The operator has an account at this server.",
            account=account.name,
            provider=account.provider,
            host=origin_of(account.base_url or PROVIDERS[account.provider].base_url),
            key=account.key_source,
        )
    for model in config.models:
        if not model.base_url:
            destination = default_destination(model.provider) if model.provider in DEFAULT_UPSTREAMS else {}
            log.info(
                "operator_route",
                message=ROUTE_MESSAGE,
                model=model.name,
                provider=model.provider or None,
                targets=[f"{target.provider}/{target.model}" for target in model.targets] or None,
                source=FILE,
                **destination,
            )
    for route in (*yaml_routes(config), *environment_routes(config)):
        log.info(
            "operator_route",
            message=ROUTE_MESSAGE,
            model=route.model,
            provider=route.provider,
            source=route.source,
            host=origin_of(route.base_url),
            key=route.key.variable or None,
            reason=route.key.reason.value,
        )


def default_destination(provider: str) -> dict[str, str | None]:
    """Return the host of the operator's account at a provider, and the variable of its key."""
    variable, secret = configured_key(provider)
    return {
        "host": origin_of(default_upstream(provider) or PROVIDERS[provider].base_url),
        "key": variable if secret else None,
    }

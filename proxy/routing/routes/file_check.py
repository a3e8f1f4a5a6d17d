"""Check the routes of the config file when the gateway starts."""

from django.conf import settings

from proxy.providers.catalog import DEMO, PROVIDERS
from proxy.routing.accounts import Account, account_from_definition
from proxy.routing.config_file import ConfigError, OperatorConfig
from proxy.routing.routes.builder import build_table

SOME_SERVER = "http://localhost"


def check_routes(config: OperatorConfig) -> None:
    """Raise ConfigError for a route that no project could use.

    Projects may have credentials for any provider, so the check assumes an account at each of them.
    """
    named = [account_from_definition(definition) for definition in config.accounts]
    assumed = [
        Account(slug, provider, provider.base_url or SOME_SERVER, "")
        for slug, provider in PROVIDERS.items()
        if slug != DEMO
    ]
    table = build_table((), assumed, named, config)
    for model in config.models:
        for route in table.routes[model.name]:
            if route.problems and not model.base_url:
                reasons = " ".join(route.problems)
                raise ConfigError(f"{settings.ENV.ai_gateway_config}: the route {model.name!r}: {reasons}")

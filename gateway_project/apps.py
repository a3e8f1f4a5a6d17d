from django.apps import AppConfig


class GatewayProjectConfig(AppConfig):
    """Carries the management commands that belong to no single app."""

    name = "gateway_project"
    default_auto_field = "django.db.models.BigAutoField"

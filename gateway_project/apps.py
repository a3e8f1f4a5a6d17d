from django.apps import AppConfig


class GatewayProjectConfig(AppConfig):
    """The app that contains the management commands."""

    name = "gateway_project"
    default_auto_field = "django.db.models.BigAutoField"

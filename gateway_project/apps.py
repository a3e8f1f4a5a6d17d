from django.apps import AppConfig


class GatewayProjectConfig(AppConfig):
    """App of the management commands that need several apps."""

    name = "gateway_project"
    default_auto_field = "django.db.models.BigAutoField"

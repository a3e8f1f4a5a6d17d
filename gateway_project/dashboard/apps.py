from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Registers the template tags of the pages."""

    name = "gateway_project.dashboard"
    label = "dashboard"

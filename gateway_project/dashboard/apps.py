from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Makes the template tags of the pages known to Django."""

    name = "gateway_project.dashboard"
    label = "dashboard"

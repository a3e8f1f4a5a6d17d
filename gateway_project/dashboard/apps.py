from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """The app that makes Django find the template tags of the dashboard."""

    name = "gateway_project.dashboard"
    label = "dashboard"
